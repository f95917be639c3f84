"""Note the pages of messages from which rows were deleted, until their summaries are made anew.

They are noted in the transaction that deletes. Processes of the release before note nothing: their
archives make the summaries anew by themselves.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "freed_pages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("blocks", postgresql.ARRAY(sa.BigInteger), nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("freed_pages")
