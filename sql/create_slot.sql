-- On a replication connection: a slot, and a snapshot of exactly the moment from which it streams.
CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput EXPORT_SNAPSHOT
