"""Let the tables be published, and note how far the numbers of rows have come.

PostgreSQL refuses updates of a published table that has neither a primary key nor another identity.
``log_positions`` has no key, and every insert of rows updates it; one publication of all tables
stopped them.

Logical replication copies rows, but not the sequences that number them. On a copy,
``sequence_marks`` says which numbers were given out.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.migrations.altering import alter_in_turn

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sequence_marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("reached", sa.BigInteger, nullable=False),
    )
    alter_in_turn("log_positions", "REPLICA IDENTITY FULL")


def downgrade() -> None:
    """Take back."""
    alter_in_turn("log_positions", "REPLICA IDENTITY DEFAULT")
    op.drop_table("sequence_marks")
