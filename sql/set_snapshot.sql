-- Read what the slot's snapshot shows.
SET TRANSACTION SNAPSHOT {snapshot}
