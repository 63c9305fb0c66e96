-- Nobody writes into the table while this transaction lasts; who reads is not disturbed. Not where a vacuum is under way.
LOCK TABLE kine IN SHARE MODE NOWAIT
