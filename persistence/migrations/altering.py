"""Change a table that every process writes and that others may read for long."""

from __future__ import annotations

from alembic import op

__all__ = ["alter_in_turn"]

# The table's lock has to wait for those who read it, a dump for hours; every heartbeat waits behind
# this meanwhile, and a process without one counts as missing. So it waits for half a second at a
# time, and lets the heartbeats pass in between.
_IN_TURN = """
DO $$ BEGIN
    SET LOCAL lock_timeout = '500ms';
    FOR try IN 1..200 LOOP
        BEGIN
            ALTER TABLE {table} {change};
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
    RAISE lock_not_available
        USING MESSAGE = 'others read the table {table} all the time: end the dump, or try later';
END $$
"""


def alter_in_turn(table: str, change: str) -> None:
    """Run ``ALTER TABLE`` as soon as nobody reads the table; wait for up to some five minutes.

    Raises:
        OperationalError: it was read all the time.
    """
    op.execute(_IN_TURN.format(table=table, change=change))
