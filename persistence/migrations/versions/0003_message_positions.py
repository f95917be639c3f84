"""Where a message stands in the logs that its row did not come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. A table of its own: yesterday's code neither reads nor writes it."""
    op.create_table(
        "message_positions",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("log_offset", sa.Text, nullable=False),
        sa.Column("appended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "transport", name="message_positions_pkey"),
    )


def downgrade() -> None:
    """Take back. The logs still hold what stands in them."""
    op.drop_table("message_positions")
