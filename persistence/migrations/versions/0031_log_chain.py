"""Keep the order in which the logs are read, which replaces the watermark of a migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "log_chain",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("links", postgresql.JSONB, nullable=False),
        sa.Column("both_whole", sa.Boolean, nullable=False),
        sa.CheckConstraint("id = 1", name="log_chain_one_row"),
    )
    op.drop_column("migration", "watermark")
    op.alter_column("processes", "standby", new_column_name="followers")


def downgrade() -> None:
    """Take back."""
    op.alter_column("processes", "followers", new_column_name="standby")
    op.add_column("migration", sa.Column("watermark", postgresql.JSONB, nullable=True))
    op.drop_table("log_chain")
