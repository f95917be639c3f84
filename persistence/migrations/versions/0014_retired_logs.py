"""Keep which logs were retired, so that no process writes one again.

Yesterday's processes do not look here. Nothing that they use is changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "retired_logs",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("retired_logs")
