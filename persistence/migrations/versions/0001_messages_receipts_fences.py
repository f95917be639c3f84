"""Messages with an idempotency key, receipts, and the fences that keep out stale owners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _now() -> sa.TextClause:
    return sa.text("now()")


def upgrade() -> None:
    """Apply."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("sender_id", sa.Text, nullable=False),
        sa.Column("client_message_id", sa.Text, nullable=False),
        sa.Column("recipient_ids", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("accepted_at", moment, nullable=False),
        sa.Column("created_at", moment, server_default=_now(), nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("log_offset", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="messages_pkey"),
        sa.UniqueConstraint("idempotency_key", name="messages_idempotency_key_key"),
    )
    op.create_index("messages_conversation_id_seq_idx", "messages", ["conversation_id", "seq"])
    op.create_table(
        "message_receipts",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("created_at", moment, server_default=_now(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "user_id", "state", name="message_receipts_pkey"),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["messages.id"],
            name="message_receipts_message_id_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "fences",
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("taken_at", moment, server_default=_now(), nullable=False),
        sa.PrimaryKeyConstraint("transport", "partition", name="fences_pkey"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("fences")
    op.drop_table("message_receipts")
    op.drop_table("messages")
