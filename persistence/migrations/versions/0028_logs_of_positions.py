"""Note the log that each position is in: offsets of one log mean nothing in another.

Processes of the release before do not note it, and their statements go on working.
"""

from __future__ import annotations

from persistence.migrations.altering import alter_in_turn

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    alter_in_turn("log_positions", "ADD COLUMN log text")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("log_positions", "DROP COLUMN log")
