-- Drop the subscription and leave the remote slot alone: the remote may be gone, and its own slots are its own business.
SELECT kine_failover_admin.unsubscribe()
