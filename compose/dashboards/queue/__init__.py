"""The dashboard of the queue, one file for each row."""
