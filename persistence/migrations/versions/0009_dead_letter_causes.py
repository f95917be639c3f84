"""Dead letters by their cause: a column, which is computed where a letter becomes a row.

The column begins empty: what stands in the table already is given its cause a little at a time
(``persistence.dead_letters.causes``). The indexes are made under a lock that holds up new rows
of this table, not reads: dead letters wait in their log meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    """Apply. Yesterday's statements go on working: only a column that may be null is added."""
    op.add_column("dead_letters", sa.Column("cause", sa.Text, nullable=True))
    op.create_index(
        "dead_letters_pending_cause_idx",
        "dead_letters",
        ["reason", "cause", "id"],
        postgresql_where=_PENDING,
        postgresql_include=["failed_at", "redrives"],
    )
    op.create_index(
        "dead_letters_pending_reason_idx",
        "dead_letters",
        ["reason", "id"],
        postgresql_where=_PENDING,
    )
    op.create_index(
        "dead_letters_without_cause_idx",
        "dead_letters",
        ["id"],
        postgresql_where=sa.text("state = 'pending' AND cause IS NULL"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("dead_letters_without_cause_idx", table_name="dead_letters")
    op.drop_index("dead_letters_pending_reason_idx", table_name="dead_letters")
    op.drop_index("dead_letters_pending_cause_idx", table_name="dead_letters")
    op.drop_column("dead_letters", "cause")
