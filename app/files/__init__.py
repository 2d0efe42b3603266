"""Files and folders without a server: what is found, where each result goes, how it is written."""
