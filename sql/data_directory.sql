-- Where the server keeps its data.
SELECT current_setting('data_directory') AS folder
