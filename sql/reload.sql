-- Have the server read its configuration files again.
SELECT pg_reload_conf()
