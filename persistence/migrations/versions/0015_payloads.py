"""Of content that is in the payload store, keep how long it is.

The key has its column already, and the digest in it. Processes say which envelopes they read, so
that none is written which one of them can't. Yesterday's statements go on working: only columns
that may be null are added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("messages", sa.Column("payload_bytes", sa.BigInteger, nullable=True))
    op.add_column("processes", sa.Column("envelope", sa.SmallInteger, nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("processes", "envelope")
    op.drop_column("messages", "payload_bytes")
