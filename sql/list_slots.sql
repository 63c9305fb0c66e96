-- This product's replication slots, and who uses them.
SELECT slot_name, active_pid FROM pg_replication_slots
WHERE slot_name LIKE %(pattern)s AND slot_name IS DISTINCT FROM %(keep)s
