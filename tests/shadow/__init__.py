"""Mirroring between two real logs, each behind a proxy."""
