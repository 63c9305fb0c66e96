-- Whom commits wait for, as this session sees it.
SELECT current_setting('synchronous_standby_names') AS waits_for
