-- Let Kine's role in, if the own term is above the fence's (R19); no row means that it is not.
UPDATE kine_failover.local_state SET fence_term = fence_term WHERE fence_term < %(term)s
;;
SELECT kine_failover_admin.admit_kine(true) FROM kine_failover.local_state WHERE fence_term < %(term)s
;;
SELECT fence_term < %(term)s AS below, fence_term FROM kine_failover.local_state
