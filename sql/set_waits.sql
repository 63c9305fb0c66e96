-- Whom commits wait for; empty for nobody. Takes effect with a reload.
ALTER SYSTEM SET synchronous_standby_names = %(standby)s
