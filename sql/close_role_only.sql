-- For a switchover: nobody new comes in; who is there ends by itself. The fence's term follows with the promotion.
SELECT kine_failover_admin.admit_kine(false)
