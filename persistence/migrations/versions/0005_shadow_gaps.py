"""Messages that a shadow log was not given, for a backfill to find."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "shadow_gaps",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("shadow", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("first_offset", sa.Text, nullable=True),
        sa.Column("last_offset", sa.Text, nullable=True),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("noted_by", sa.Text, nullable=False),
        sa.Column("noted_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("repaired_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name="shadow_gaps_pkey"),
    )


def downgrade() -> None:
    """Take back. A parity check finds again what the table said."""
    op.drop_table("shadow_gaps")
