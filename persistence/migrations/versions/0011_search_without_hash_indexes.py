"""Find client message ids and correlation ids by BRIN indexes, in place of hash indexes.

Only people look for a message by these, and every insert paid for it: a hash puts each row on
another page, and after a checkpoint the first change of a page writes all of it to the WAL. A BRIN
index has a Bloom filter for each megabyte of the table, made once that megabyte is full: by
autovacuum, which is asked to come by each 100,000 rows instead of each fifth of the table. (A
partial one is never asked for where no row is in it, so correlation ids that are message ids are in
it too.)

Nothing waits for this but the migration itself: indexes are made and dropped beside the writers.
Ended half-way, it begins anew.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_BLOOM = {
    "messages_client_message_id_bloom_idx": (
        "USING brin (client_message_id text_bloom_ops) WITH (autosummarize = on)"
    ),
    "messages_correlation_id_bloom_idx": (
        "USING brin (correlation_id text_bloom_ops) WITH (autosummarize = on)"
    ),
}
_HASH = {
    "messages_client_message_id_idx": "USING hash (client_message_id)",
    "messages_correlation_id_idx": ("USING hash (correlation_id) WHERE correlation_id <> id::text"),
}
_VACUUM = {
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 100_000,
}


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, definition in new.items():
            # One that was begun and not ended is there, and is used by nobody.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON messages {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def upgrade() -> None:
    """Apply."""
    options = ", ".join(f"{name} = {value}" for name, value in _VACUUM.items())
    op.execute(f"ALTER TABLE messages SET ({options})")
    _replace(_HASH, _BLOOM)


def downgrade() -> None:
    """Take back."""
    _replace(_BLOOM, _HASH)
    op.execute(f"ALTER TABLE messages RESET ({', '.join(_VACUUM)})")
