-- For a switchover: nobody new comes in; who is there ends by itself. The fence's term follows with the promotion.
DO $$ BEGIN
  EXECUTE format('ALTER ROLE %%I NOLOGIN', %(kine_role)s);
END $$
