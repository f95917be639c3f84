"""Keep one position per partition: PostgreSQL's, for workers and standbys alike."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.migrations.altering import alter_in_turn

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_table("standby_positions")
    # Without a log, a position is of none: its owner begins at the first record.
    op.execute("UPDATE log_positions SET through = '' WHERE through IS NULL")
    op.execute("UPDATE log_positions SET log = '' WHERE log IS NULL")
    alter_in_turn("log_positions", "ALTER COLUMN through SET NOT NULL")
    alter_in_turn("log_positions", "ALTER COLUMN log SET NOT NULL")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("log_positions", "ALTER COLUMN log DROP NOT NULL")
    alter_in_turn("log_positions", "ALTER COLUMN through DROP NOT NULL")
    op.create_table(
        "standby_positions",
        sa.Column("transport", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("through", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
    )
