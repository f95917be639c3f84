"""Each process says since when its appends to the primary fail, and why.

Processes of the release before do not say, and their statements go on working.
"""

from __future__ import annotations

from persistence.migrations.altering import alter_in_turn

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    alter_in_turn("processes", "ADD COLUMN append_outage jsonb")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("processes", "DROP COLUMN append_outage")
