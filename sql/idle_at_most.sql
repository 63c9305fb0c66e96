-- For this transaction: the server ends it where nothing is asked in it for so long; 0: never.
SELECT set_config('idle_in_transaction_session_timeout', %(ms)s::text, true)
