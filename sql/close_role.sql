-- The fence, and its memory in the same transaction (R19).
UPDATE kine_failover.local_state SET fence_term = greatest(fence_term, %(term)s)
;;
DO $$ BEGIN
  EXECUTE format('ALTER ROLE %%I NOLOGIN', %(kine_role)s);
END $$
