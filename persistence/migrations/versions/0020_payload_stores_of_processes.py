"""Each process says which payload stores it reads.

So that none writes to a store that another one doesn't read. Yesterday's processes do not say, and
their statements go on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "processes", sa.Column("payload_stores", postgresql.ARRAY(sa.Text), nullable=True)
    )


def downgrade() -> None:
    """Take back."""
    op.drop_column("processes", "payload_stores")
