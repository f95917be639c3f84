"""Name the two logs of the migration, and of each event in its history.

What is there was a migration from Redis to Kafka. ``processes.phase`` stays for processes of the
version before, which write it: it follows from the settings and the pair, so nothing reads it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = ("migration", "migration_events")


def upgrade() -> None:
    """Apply."""
    for table in _TABLES:
        op.add_column(
            table, sa.Column("old_log", sa.Text(), nullable=False, server_default="redis")
        )
        op.add_column(table, sa.Column("new_log", sa.Text(), nullable=True, server_default="kafka"))


def downgrade() -> None:
    """Take back."""
    for table in _TABLES:
        op.drop_column(table, "new_log")
        op.drop_column(table, "old_log")
