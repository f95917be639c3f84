"""Name the two logs of the migration, and of each event in its history.

Rows from before this revision are of a migration from Redis to Kafka. ``processes.phase`` stays for
processes of the version before, which write it. The phase itself follows from the settings and the
pair.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util.exc import CommandError

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


# The version before counts phases from Redis to Kafka only: Kafka alone is phase 5 there.
_BACK = """
UPDATE migration SET phase = 5, target = 5, old_log = 'redis', new_log = 'kafka'
WHERE old_log = 'kafka' AND phase = 0 AND target = 0
"""
_OTHERS = """
SELECT old_log, new_log FROM migration
WHERE old_log <> 'redis' OR coalesce(new_log, 'kafka') <> 'kafka' AND (phase, target) <> (0, 0)
"""


def downgrade() -> None:
    """Take back. Refused where a log is in use that the version before does not know."""
    op.execute(_BACK)
    if found := op.get_bind().execute(sa.text(_OTHERS)).first():
        raise CommandError(
            f"the migration is from {found.old_log} to {found.new_log}, which the version before "
            "does not know: take it back to redis or kafka first, with 'crossfade migrate run --to "
            "redis --why ...'"
        )
    for table in _TABLES:
        op.drop_column(table, "new_log")
        op.drop_column(table, "old_log")
