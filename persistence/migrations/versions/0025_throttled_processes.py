"""Each process says which logs slow it down, since a quota of theirs is used up.

Processes of the release before do not say, and their statements go on working.
"""

from __future__ import annotations

from persistence.migrations.altering import alter_in_turn

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    alter_in_turn("processes", "ADD COLUMN throttled jsonb")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("processes", "DROP COLUMN throttled")
