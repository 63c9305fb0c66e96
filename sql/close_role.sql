-- The fence, and its memory in the same transaction (R19).
UPDATE kine_failover.local_state SET fence_term = greatest(fence_term, %(term)s)
;;
SELECT kine_failover_admin.admit_kine(false)
