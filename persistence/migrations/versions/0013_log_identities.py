"""Keep which log each name means, and what each process says of the logs that it knows.

Both begin empty: processes fill them with their next heartbeat. Yesterday's statements go on
working: only a column that may be null is added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "log_identities",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column(
            "first_seen", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.add_column("processes", sa.Column("logs", postgresql.JSONB, nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("processes", "logs")
    op.drop_table("log_identities")
