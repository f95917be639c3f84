"""Facts that processes share through PostgreSQL: heartbeats, used logs, the migration's phase."""
