-- Drop the subscription and leave the remote slot alone: the remote may be gone, and its own slots are its own business.
DO $$
DECLARE one record;
BEGIN
  FOR one IN SELECT subname FROM pg_subscription WHERE subname LIKE 'kf\_%%' LOOP
    EXECUTE format('ALTER SUBSCRIPTION %%I DISABLE', one.subname);
    EXECUTE format('ALTER SUBSCRIPTION %%I SET (slot_name = NONE)', one.subname);
    EXECUTE format('DROP SUBSCRIPTION %%I', one.subname);
  END LOOP;
END $$
