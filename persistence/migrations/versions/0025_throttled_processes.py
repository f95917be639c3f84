"""Each process says which logs slow it down, since a quota of theirs is used up.

Processes of the release before do not say, and their statements go on working.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# The table's lock has to wait for whoever reads it, a dump for hours; every heartbeat waits behind
# this meanwhile, and a process without one counts as missing. So it waits for half a second at a
# time, and lets the heartbeats pass in between.
_IN_TURN = """
DO $$ BEGIN
    SET LOCAL lock_timeout = '500ms';
    FOR try IN 1..200 LOOP
        BEGIN
            ALTER TABLE processes {change};
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
    RAISE lock_not_available
        USING MESSAGE = 'others read the table processes all the time: end the dump, or try later';
END $$
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_IN_TURN.format(change="ADD COLUMN throttled jsonb"))


def downgrade() -> None:
    """Take back."""
    op.execute(_IN_TURN.format(change="DROP COLUMN throttled"))
