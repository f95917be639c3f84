"""Alembic runs this file for every command; ``persistence.migrate`` hands it the connection."""

from __future__ import annotations

from alembic import context

from persistence.tables.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
