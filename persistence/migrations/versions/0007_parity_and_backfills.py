"""Reports of comparisons of two logs, and backfills."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _now() -> sa.TextClause:
    return sa.text("now()")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "parity_reports",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("primary_log", sa.Text, nullable=False),
        sa.Column("shadow_log", sa.Text, nullable=False),
        sa.Column("since", _MOMENT, nullable=True),
        sa.Column("until", _MOMENT, nullable=False),
        sa.Column("counts", postgresql.JSONB, nullable=False),
        sa.Column("lag", postgresql.JSONB, nullable=False),
        sa.Column("samples", postgresql.JSONB, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("compared", sa.BigInteger, nullable=False),
        sa.Column("coverage", sa.Float, nullable=True),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", _MOMENT, server_default=_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="parity_reports_pkey"),
    )
    op.create_index(
        "parity_reports_primary_log_shadow_log_until_idx",
        "parity_reports",
        ["primary_log", "shadow_log", "until"],
    )
    op.create_table(
        "backfills",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("from_rows", sa.Boolean, nullable=False),
        sa.Column("since", _MOMENT, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("cursor", postgresql.JSONB, server_default=sa.text("'{}'"), nullable=False),
        _count("examined"),
        _count("missing"),
        _count("appended"),
        _count("present"),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("started_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("seen_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="backfills_pkey"),
    )


def downgrade() -> None:
    """Take back. Both can be made again from the logs."""
    op.drop_table("backfills")
    op.drop_table("parity_reports")
