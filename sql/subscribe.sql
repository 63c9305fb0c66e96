-- Stream on from the slot whose snapshot was copied. Flushed means durable here: the leader waits for it.
CREATE SUBSCRIPTION {subscription} CONNECTION {conninfo} PUBLICATION kine_failover
WITH (create_slot = false, slot_name = {slot}, copy_data = false, synchronous_commit = 'on')
