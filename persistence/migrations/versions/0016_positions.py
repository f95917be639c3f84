"""Keep how far each partition of each log is settled, committed with the rows.

The table has no index, and few rows. Each statement that inserts makes new versions of some, which
stay while anybody's snapshot needs them; an index would be searched through all of them.
Yesterday's statements go on working: what they write makes a position unknown.

The table is vacuumed after so many dead versions, whatever its size: by its share of the table that
would come later and later, and looks for positions read all of it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "log_positions",
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("through", sa.Text, nullable=True),
    )
    op.execute(
        "ALTER TABLE log_positions SET "
        "(autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("log_positions")
