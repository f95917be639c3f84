"""Where the migration between logs stands, its history, and the processes that take part."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _now() -> sa.TextClause:
    return sa.text("now()")


def upgrade() -> None:
    """Apply. Nothing that is there changes."""
    op.create_table(
        "migration",
        sa.Column("id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("phase", sa.SmallInteger, nullable=False),
        sa.Column("target", sa.SmallInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("changed_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("reached_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("watermark", postgresql.JSONB, nullable=True),
        sa.Column("queued", postgresql.JSONB, nullable=True),
        sa.PrimaryKeyConstraint("id", name="migration_pkey"),
        sa.CheckConstraint("id = 1", name="migration_one_row"),
    )
    op.create_table(
        "migration_events",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("from_phase", sa.SmallInteger, nullable=False),
        sa.Column("to_phase", sa.SmallInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("gates", postgresql.JSONB, nullable=True),
        sa.Column("overrides", postgresql.JSONB, nullable=True),
        sa.PrimaryKeyConstraint("id", name="migration_events_pkey"),
    )
    _create_processes()


def _create_processes() -> None:
    op.create_table(
        "processes",
        sa.Column("member", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=True),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("api_url", sa.Text, nullable=False),
        sa.Column("metrics_url", sa.Text, nullable=False),
        sa.Column("phase", sa.SmallInteger, nullable=True),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("transport_shadow", sa.Text, nullable=True),
        sa.Column("transport_shadow_mode", sa.Text, nullable=True),
        sa.Column("consume_from", sa.Text, nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("owned", postgresql.JSONB, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("paused", postgresql.JSONB, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("shadow", postgresql.JSONB, nullable=True),
        sa.Column("standby", postgresql.JSONB, nullable=True),
        sa.PrimaryKeyConstraint("member", name="processes_pkey"),
    )


def downgrade() -> None:
    """Take back. The migration's history goes with it."""
    op.drop_table("processes")
    op.drop_table("migration_events")
    op.drop_table("migration")
