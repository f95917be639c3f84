"""From the log to PostgreSQL: the worker, the one-statement writer, dead letters, the tables."""
