"""One table of long jobs in place of ``redrives`` and ``backfills``.

Yesterday's code goes on working: the two names become views of ``jobs``, which take its statements.
A later revision drops them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _now() -> sa.TextClause:
    return sa.text("now()")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, server_default=sa.text("0"), nullable=False)


def _object(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB, server_default=sa.text("'{}'"), nullable=False)


# What was asked for, as `persistence.dead_letters.redrive` and `migration_guide.backfill.request`
# write it.
_REDRIVE = """jsonb_strip_nulls(jsonb_build_object(
    'selection', {0}.selection, 'untilId', {0}.until_id, 'mostRedrives', {0}.most_redrives))"""
_BACKFILL = """jsonb_strip_nulls(jsonb_build_object(
    'source', {0}.source, 'target', {0}.target, 'fromRows', nullif({0}.from_rows, false),
    'since', extract(epoch FROM {0}.since)::float8))"""

_CARRY_OVER = [
    "LOCK TABLE redrives, backfills IN ACCESS EXCLUSIVE MODE",
    f"""
    INSERT INTO jobs (id, kind, state, request, rate, total, done, failed, error, started_by,
        started_at, seen_at, finished_at)
    SELECT id, 'redrive', state, {_REDRIVE.format("redrives")}, rate, total, redriven, failed,
        error, started_by, started_at, seen_at, finished_at
    FROM redrives
    """,  # noqa: S608 - constants only
    f"""
    INSERT INTO jobs (id, kind, state, request, rate, cursor, total, done, counts, error,
        started_by, started_at, seen_at, finished_at)
    SELECT id, 'backfill', state, {_BACKFILL.format("backfills")}, rate, cursor, missing, appended,
        jsonb_build_object('examined', examined, 'present', present), error,
        started_by, started_at, seen_at, finished_at
    FROM backfills
    """,  # noqa: S608 - constants only
]

_VIEW_REDRIVES = """
CREATE VIEW redrives AS SELECT id,
    request -> 'selection' AS selection,
    (request ->> 'untilId')::bigint AS until_id,
    (request ->> 'mostRedrives')::integer AS most_redrives,
    rate, state, total, done AS redriven, failed, error, started_by, started_at, seen_at,
    finished_at
FROM jobs WHERE kind = 'redrive'
"""

_VIEW_BACKFILLS = """
CREATE VIEW backfills AS SELECT id,
    request ->> 'source' AS source,
    request ->> 'target' AS target,
    coalesce((request ->> 'fromRows')::boolean, false) AS from_rows,
    to_timestamp((request ->> 'since')::float8) AS since,
    state, rate, cursor,
    coalesce((counts ->> 'examined')::bigint, 0) AS examined,
    total AS missing, done AS appended,
    coalesce((counts ->> 'present')::bigint, 0) AS present,
    error, started_by, started_at, seen_at, finished_at
FROM jobs WHERE kind = 'backfill'
"""

# A view takes the updates of plain columns by itself; these are the statements that need more.
_TRIGGERS = [
    f"""
    CREATE FUNCTION redrives_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO jobs (id, kind, state, request, rate, total, started_by)
        VALUES (NEW.id, 'redrive', NEW.state, {_REDRIVE.format("NEW")}, NEW.rate, NEW.total,
            NEW.started_by);
        RETURN NEW;
    END $$
    """,  # noqa: S608 - constants only
    f"""
    CREATE FUNCTION backfills_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO jobs (id, kind, state, request, rate, started_by)
        VALUES (NEW.id, 'backfill', NEW.state, {_BACKFILL.format("NEW")}, NEW.rate, NEW.started_by);
        RETURN NEW;
    END $$
    """,  # noqa: S608 - constants only
    """
    CREATE FUNCTION backfills_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE jobs SET state = NEW.state, rate = NEW.rate, cursor = NEW.cursor,
            total = NEW.missing, done = NEW.appended, error = NEW.error, seen_at = NEW.seen_at,
            finished_at = NEW.finished_at, counts = counts || jsonb_build_object(
                'examined', NEW.examined, 'present', NEW.present)
        WHERE id = OLD.id AND state = OLD.state;
        IF NOT FOUND THEN  -- it was cancelled meanwhile
            RETURN NULL;
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER redrives_insert INSTEAD OF INSERT ON redrives
    FOR EACH ROW EXECUTE FUNCTION redrives_insert()
    """,
    """
    CREATE TRIGGER backfills_insert INSTEAD OF INSERT ON backfills
    FOR EACH ROW EXECUTE FUNCTION backfills_insert()
    """,
    """
    CREATE TRIGGER backfills_update INSTEAD OF UPDATE ON backfills
    FOR EACH ROW EXECUTE FUNCTION backfills_update()
    """,
]


def upgrade() -> None:
    """Apply. What runs meanwhile waits for this, and goes on with the same rows."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        _object("request"),
        sa.Column("rate", sa.Integer, server_default=sa.text("0"), nullable=False),
        _object("cursor"),
        _count("total"),
        _count("done"),
        _count("failed"),
        _object("counts"),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("owner", sa.Text, nullable=True),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("started_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("seen_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="jobs_pkey"),
    )
    op.create_index("jobs_kind_started_at_idx", "jobs", ["kind", "started_at"])
    for statement in _CARRY_OVER:
        op.execute(statement)
    op.drop_table("redrives")
    op.drop_table("backfills")
    for statement in (_VIEW_REDRIVES, _VIEW_BACKFILLS, *_TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Take back. Repairs leave no job behind; they stand in ``operator_actions``."""
    for name in ("redrives", "backfills"):
        op.execute(f"ALTER VIEW {name} RENAME TO {name}_of_jobs")
    _create_redrives()
    _create_backfills()
    for name in ("redrives", "backfills"):
        columns = ", ".join(_COLUMNS[name])
        op.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_of_jobs")  # noqa: S608 - constants only
        op.execute(f"DROP VIEW {name}_of_jobs")
    for function in ("redrives_insert", "backfills_insert", "backfills_update"):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_table("jobs")


_COLUMNS = {
    "redrives": (
        "id", "selection", "until_id", "most_redrives", "rate", "state", "total", "redriven",
        "failed", "error", "started_by", "started_at", "seen_at", "finished_at",
    ),
    "backfills": (
        "id", "source", "target", "from_rows", "since", "state", "rate", "cursor", "examined",
        "missing", "appended", "present", "error", "started_by", "started_at", "seen_at",
        "finished_at",
    ),
}  # fmt: skip


def _create_redrives() -> None:
    op.create_table(
        "redrives",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("selection", postgresql.JSONB, nullable=False),
        sa.Column("until_id", sa.BigInteger, nullable=False),
        sa.Column("most_redrives", sa.Integer, nullable=True),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        _count("redriven"),
        _count("failed"),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("started_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("seen_at", _MOMENT, server_default=_now(), nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="redrives_pkey"),
    )


def _create_backfills() -> None:
    op.create_table(
        "backfills",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("from_rows", sa.Boolean, nullable=False),
        sa.Column("since", _MOMENT, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rate", sa.Integer, nullable=False),
        _object("cursor"),
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
