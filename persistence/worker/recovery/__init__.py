"""Rows that PostgreSQL lost: noticed, put back from the log, or accepted as gone by a person."""
