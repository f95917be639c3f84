"""Dead letters and redrives; and on each message, how often it was tried and its trace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _now() -> sa.TextClause:
    return sa.text("now()")


def upgrade() -> None:
    """Apply. The new columns have defaults, so the insert of revision 0001 goes on working."""
    op.add_column(
        "messages",
        sa.Column("attempts", sa.SmallInteger, server_default=sa.text("1"), nullable=False),
    )
    op.add_column("messages", sa.Column("trace_id", sa.Text, nullable=True))
    op.add_column("messages", sa.Column("payload_key", sa.Text, nullable=True))
    _create_dead_letters()
    _create_redrives()


def _create_dead_letters() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("identity", sa.LargeBinary, nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("log_offset", sa.Text, nullable=False),
        sa.Column("source_topic", sa.Text, nullable=False),
        sa.Column("source_partition", sa.Integer, nullable=False),
        sa.Column("source_offset", sa.Text, nullable=False),
        sa.Column("message_id", sa.Uuid, nullable=True),
        sa.Column("conversation_id", sa.Text, nullable=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("record_key", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("header_names", postgresql.ARRAY(sa.LargeBinary), nullable=False),
        sa.Column("header_values", postgresql.ARRAY(sa.LargeBinary), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("redrives", sa.Integer, nullable=False),
        sa.Column("failed_at", moment, nullable=False),
        sa.Column("recorded_at", moment, server_default=_now(), nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'pending'"), nullable=False),
        sa.Column("settled_at", moment, nullable=True),
        sa.Column("settled_by", sa.Text, nullable=True),
        sa.Column("settled_why", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="dead_letters_pkey"),
        sa.UniqueConstraint("identity", name="dead_letters_identity_key"),
    )
    op.create_index("dead_letters_message_id_idx", "dead_letters", ["message_id"])
    op.create_index("dead_letters_state_id_idx", "dead_letters", ["state", "id"])
    op.create_index(
        "dead_letters_conversation_id_id_idx", "dead_letters", ["conversation_id", "id"]
    )


def _create_redrives() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "redrives",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("selection", postgresql.JSONB, nullable=False),
        sa.Column("until_id", sa.BigInteger, nullable=False),
        sa.Column("most_redrives", sa.Integer, nullable=True),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("redriven", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("started_at", moment, server_default=_now(), nullable=False),
        sa.Column("seen_at", moment, server_default=_now(), nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name="redrives_pkey"),
    )


def downgrade() -> None:
    """Take back. Dead letters stay in the log's own dead-letter topic."""
    op.drop_table("redrives")
    op.drop_table("dead_letters")
    op.drop_column("messages", "payload_key")
    op.drop_column("messages", "trace_id")
    op.drop_column("messages", "attempts")
