"""Note how far a standby followed each partition of a log that is not read.

A database that is restored to a moment before a log was read then knows from where on rows of that
log's records may be missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "standby_positions",
        sa.Column("transport", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("through", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("standby_positions")
