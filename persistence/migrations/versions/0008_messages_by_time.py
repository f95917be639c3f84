"""Messages by the time of their row, for people who look for what was persisted of late.

A BRIN index has one small entry for each megabyte of the table. It is made under a lock that holds
up inserts, not reads: messages are accepted into the log meanwhile, and persisted afterwards.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "messages_created_at_idx",
        "messages",
        ["created_at"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("messages_created_at_idx", "messages")
