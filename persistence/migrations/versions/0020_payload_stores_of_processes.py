"""Each process says which payload stores it reads.

So that none writes to a store that another one doesn't read. Yesterday's processes do not say, and
their statements go on working.
"""

from __future__ import annotations

from persistence.migrations.altering import alter_in_turn

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    alter_in_turn("processes", "ADD COLUMN payload_stores text[]")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("processes", "DROP COLUMN payload_stores")
