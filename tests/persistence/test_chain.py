"""The chain: the order in which logs are read, its changes, and what PostgreSQL may lose of it."""

from __future__ import annotations

import msgspec
import pytest
from structlog.testing import capture_logs

from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Chain, ChainLink, Marks
from persistence.chain.table import read
from tests.support.positions import settle_through
from transport.contract import Transport

A = Marks("redis/1", {0: "3", 1: "5"})
B = Marks("kafka/1", {0: "7"})
FIRST = Chain(links=(ChainLink("redis"),))
BOTH = FIRST.marked({"redis": A}, "redis", "kafka")


def key(offset: str) -> bytes:
    return int(offset).to_bytes(8, "big")


def passed(chain: Chain) -> Chain:
    return chain.opened("redis", "redis/1", {0: "3", 1: "6"}, key)


def test_both_logs_are_read_to_their_ends_while_both_are_whole() -> None:
    assert BOTH.whole() == {"redis", "kafka"}
    assert BOTH.is_unbounded("redis")
    assert not BOTH.is_unbounded("kafka"), "the mark of redis was not reached"
    assert passed(BOTH).is_unbounded("kafka")


@pytest.mark.parametrize(
    ("identity", "settled"),
    [("redis/1", {0: "3"}), ("redis/1", {0: "3", 1: "4"}), ("redis/2", {0: "3", 1: "5"}), ("", {})],
)
def test_a_link_is_open_once_every_position_has_reached_its_mark(identity, settled) -> None:
    assert not BOTH.opened("redis", identity, settled, key).is_unbounded("kafka")
    assert BOTH.waits_for("redis") == {0, 1}
    assert passed(BOTH).waits_for("redis") == set()


def test_a_log_that_had_no_record_is_passed() -> None:
    chain = FIRST.marked({"redis": Marks("redis/1", {})}, "redis", "kafka")
    assert chain.is_unbounded("kafka")


def test_a_log_that_is_not_whole_any_more_is_read_up_to_its_mark() -> None:
    closed = passed(BOTH).closed("redis")
    assert closed.whole() == {"kafka"}
    assert not closed.is_unbounded("redis")
    assert closed.bound("redis", "redis/1", 1, key) == "5"
    assert closed.bound("redis", "redis/1", 2, key) == ""
    assert closed.bound("redis", "redis/2", 1, key) == "", "a mark of another log"


def test_a_log_that_was_only_mirrored_is_read_no_more_once_it_is_closed() -> None:
    closed = passed(BOTH).closed("kafka")
    assert (closed.links, closed.both_whole) == (FIRST.links, False)
    assert closed.closed("redis") == closed, "the only whole log is not closed"


def test_the_way_back_has_a_mark_of_the_new_log() -> None:
    chain = passed(BOTH).closed("redis").marked({"kafka": B}, "kafka", "redis")
    assert [link.log for link in chain.links] == ["redis", "kafka", "redis"]
    assert not chain.is_unbounded("redis")
    assert chain.bound("redis", "redis/1", 0, key) == "3"
    assert chain.opened("kafka", "kafka/1", {0: "7"}, key).is_unbounded("redis")
    by_the_old_primary = passed(BOTH).closed("redis").marked({"kafka": B}, "redis", "kafka")
    assert by_the_old_primary.links == chain.links, "the log that is read now comes first"
    unread = BOTH.closed("redis").marked({"kafka": B}, "kafka", "redis")
    assert unread.bound("kafka", "kafka/1", 0, key) == "", "the mark of redis was not reached"


@pytest.mark.parametrize(
    ("chain", "primary", "written"),
    [
        (FIRST, "redis", {"redis"}),
        (FIRST, "redis", {"redis", "kafka"}),
        (BOTH, "redis", {"redis", "kafka"}),
        (BOTH, "kafka", {"redis", "kafka"}),
        (BOTH.closed("redis"), "kafka", {"kafka"}),
        (BOTH.closed("redis"), "kafka", {"redis", "kafka"}),
    ],
)
def test_a_step_of_a_migration_is_no_change_by_hand(chain, primary, written) -> None:
    assert chain.changed_by_hand(primary, written) == chain


def test_a_primary_changed_by_hand_is_read_together_with_the_one_before() -> None:
    changed = FIRST.changed_by_hand("kafka", {"kafka"})
    assert changed.is_unbounded("redis")
    assert changed.is_unbounded("kafka")
    assert changed.changed_by_hand("redis", {"redis"}) == changed, "a process with old settings"
    again = changed.marked({"redis": A, "kafka": B}, "redis", "kafka")
    assert not again.is_unbounded("kafka"), "what is in one log only is read first"


def test_a_process_that_does_not_mirror_closes_the_other_log() -> None:
    assert BOTH.changed_by_hand("redis", {"redis"}).links == FIRST.links
    stray = BOTH.changed_by_hand("kafka", {"kafka"})
    assert (stray.links, stray.whole()) == (BOTH.links, {"kafka"})


def test_a_log_left_by_hand_that_is_drained_keeps_a_mark() -> None:
    changed = FIRST.changed_by_hand("kafka", {"kafka"}).ended("redis", A)
    assert not changed.is_unbounded("redis")
    assert changed.bound("redis", "redis/1", 0, key) == "3"
    assert changed.is_unbounded("kafka"), "its positions are forgotten: nothing waits for them"


def test_a_log_that_is_gone_leaves_the_chain() -> None:
    left = BOTH.without("redis", "kafka")
    assert (left.links, left.whole(), left.both_whole) == ((ChainLink("kafka"),), {"kafka"}, False)
    back = passed(BOTH).closed("redis").marked({"kafka": B}, "kafka", "redis")
    assert back.without("redis", "kafka").is_unbounded("kafka")


def test_an_answer_from_a_row_needs_a_record_that_is_found_again() -> None:
    def leads(chain: Chain, log: str, offset: str, *, mirrors: bool = True) -> bool:
        return chain.leads_to(log, 0, offset, key, mirrors=mirrors)

    assert leads(FIRST, "redis", "9", mirrors=False)
    assert not leads(FIRST, "kafka", "9", mirrors=False)
    assert not leads(FIRST, "redis", "9"), "its copy may be missing, and no mark is known yet"
    assert leads(BOTH, "redis", "3")
    for log in ("redis", "kafka"):
        for mirrors in (True, False):
            assert not leads(BOTH, log, "4", mirrors=mirrors)
    assert leads(FIRST.changed_by_hand("kafka", {"kafka"}), "redis", "9")


@pytest.fixture
def chain(database_pool) -> KnownChain:
    return KnownChain(database_pool)


async def in_postgresql(pool) -> Chain:
    async with pool.acquire() as connection:
        return await read(connection)


async def test_the_first_log_that_is_read_begins_it(chain, database_pool) -> None:
    await chain.begin("redis")
    other = KnownChain(database_pool)
    await other.begin("kafka")
    assert (chain.now.links, other.now) == ((ChainLink("redis"),), chain.now)
    assert await in_postgresql(database_pool) == chain.now


async def test_a_change_is_made_of_the_present_chain(chain, database_pool) -> None:
    await chain.begin("redis")
    other = KnownChain(database_pool)
    await other.load()
    assert await other.update(lambda now: now.marked({"redis": A}, "redis", "kafka"))
    assert await chain.update(lambda now: now.closed("redis"))
    assert (chain.now.whole(), len(chain.now.links)) == ({"kafka"}, 2)
    assert chain.now.version > other.now.version
    assert await other.load()
    assert other.now == chain.now


async def test_a_link_is_opened_by_postgresqls_positions(
    chain, database_pool, transport: Transport
) -> None:
    await chain.begin("redis")
    identity = await transport.identity()
    marks = Marks(identity, {0: "5-0", 1: "5-1"})
    await chain.update(lambda now: now.marked({"redis": marks}, "redis", "kafka"))
    await settle_through(database_pool, transport, {0: "6-0", 1: "5-0"})
    await chain.open_after(transport, identity)
    assert not chain.now.is_unbounded("kafka")
    await settle_through(database_pool, transport, {1: "5-1"})
    await chain.open_after(transport, "another")
    assert not chain.now.is_unbounded("kafka")
    await database_pool.execute("UPDATE log_positions SET log = 'another'")
    await chain.open_after(transport, identity)
    assert not chain.now.is_unbounded("kafka"), "positions in another log"
    await database_pool.execute("UPDATE log_positions SET log = $1", identity)
    await chain.open_after(transport, identity)
    assert chain.now.is_unbounded("kafka")
    assert await in_postgresql(database_pool) == chain.now


async def test_a_chain_that_postgresql_lost_is_recorded_again_and_not_what_was_open(
    chain, database_pool
) -> None:
    """The rows below the mark may be lost with it."""
    await chain.begin("redis")
    earlier = await database_pool.fetchrow("SELECT * FROM log_chain")
    await chain.update(lambda now: passed(now.marked({"redis": A}, "redis", "kafka")))
    before = chain.now
    await database_pool.execute("DELETE FROM log_chain")
    await database_pool.execute("INSERT INTO log_chain VALUES ($1, $2, $3, $4)", *earlier)
    with capture_logs() as logs:
        assert await chain.load()
    assert [line["log_level"] for line in logs] == ["warning"]
    assert chain.now.version > before.version
    assert chain.now == msgspec.structs.replace(BOTH, version=chain.now.version)
    assert await in_postgresql(database_pool) == chain.now
    # What is open in PostgreSQL's moment was passed then.
    await database_pool.execute("UPDATE log_chain SET version = $1", earlier["version"])
    await chain.update(passed)
    opened = await database_pool.fetchrow("SELECT * FROM log_chain")
    await chain.update(lambda now: now.closed("redis"))
    await database_pool.execute("DELETE FROM log_chain")
    await database_pool.execute("INSERT INTO log_chain VALUES ($1, $2, $3, $4)", *opened)
    assert await chain.load()
    assert (chain.now.links, chain.now.both_whole) == (passed(BOTH).links, False)


def test_a_link_of_an_older_chain_is_open_only_behind_the_same_marks() -> None:
    newer = FIRST.marked({"redis": Marks("redis/1", {0: "9"})}, "redis", "kafka")
    assert not newer.open_as(passed(BOTH)).is_unbounded("kafka")
    assert BOTH.open_as(passed(BOTH)) == passed(BOTH)


async def test_a_database_that_was_emptied_gets_the_chain_again(chain, database_pool) -> None:
    await chain.begin("redis")
    await chain.update(lambda now: now.marked({"redis": A}, "redis", "kafka"))
    await database_pool.execute("DELETE FROM log_chain")
    assert await chain.load()
    assert await in_postgresql(database_pool) == chain.now
    assert chain.now.links == BOTH.links
