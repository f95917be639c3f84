"""Alembic's directory: one revision per file in ``versions``, run by ``persistence.migrate``."""
