"""What an operator needs: actions on record, failed attempts, finding a message by its other ids.

The new indexes are made under a lock that holds up inserts, not reads: messages are accepted into
the log meanwhile, and persisted afterwards.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _now() -> sa.TextClause:
    return sa.text("now()")


def upgrade() -> None:
    """Apply. Yesterday's statements go on working: only a column with a default is added."""
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=True),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="operator_actions_pkey"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("log_offset", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("failed_at", _MOMENT, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="delivery_attempts_pkey"),
    )
    op.create_index("delivery_attempts_message_id_idx", "delivery_attempts", ["message_id"])
    op.create_index(
        "messages_client_message_id_idx",
        "messages",
        ["client_message_id"],
        postgresql_using="hash",
    )
    op.create_index(
        "messages_correlation_id_idx",
        "messages",
        ["correlation_id"],
        postgresql_using="hash",
        postgresql_where=sa.text("correlation_id <> id::text"),
    )
    op.add_column("processes", sa.Column("figures", postgresql.JSONB, nullable=True))


def downgrade() -> None:
    """Take back. The record of actions goes with it."""
    op.drop_column("processes", "figures")
    op.drop_index("messages_correlation_id_idx", "messages")
    op.drop_index("messages_client_message_id_idx", "messages")
    op.drop_table("delivery_attempts")
    op.drop_table("operator_actions")
