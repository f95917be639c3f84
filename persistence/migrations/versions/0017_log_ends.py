"""Keep the last record of each partition that any process was told of, of logs that can lose it.

It begins empty: processes fill it every two seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "log_ends",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sort_key", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("log_ends")
