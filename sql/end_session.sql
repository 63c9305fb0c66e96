-- End one session.
SELECT pg_terminate_backend(%(pid)s)
