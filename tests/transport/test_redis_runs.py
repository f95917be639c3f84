"""Runs of records that this process appended: what of them comes next, and what a claim keeps."""

from __future__ import annotations

import asyncio

import pytest

from transport.contract import Envelope
from transport.redis.append.own_appends import OwnAppends, Run
from transport.redis.delivery.kept_runs import KeptBytes, KeptRuns

LONG = 30.0
MUCH = "x" * 60_000  # two of them are more than a claim keeps


def run_of(before: str, *offsets: str, body: str = "hello") -> Run:
    """Return a run of records at these offsets."""
    envelopes = [Envelope(f"m{at}", 1, "conv", f"{body}{at}".encode(), {}) for at in offsets]
    return Run(before, envelopes, list(offsets))


@pytest.mark.parametrize(
    ("read", "left"),
    [
        ("10-0", ["11-0", "12-0", "13-0"]),
        ("11-0", ["12-0", "13-0"]),
        ("12-0", ["13-0"]),
        ("13-0", None),
        ("14-0", None),
        ("9-0", ["11-0", "12-0", "13-0"]),
    ],
)
def test_what_comes_after_what_was_read(read: str, left: list[str] | None) -> None:
    rest = run_of("10-0", "11-0", "12-0", "13-0").after(read)
    assert (rest and rest.offsets) == left
    if rest is not None:
        assert [envelope.body for envelope in rest.envelopes] == [
            f"hello{offset}".encode() for offset in rest.offsets
        ]
        assert rest.before == (read if read > "10-0" and read != "9-0" else "10-0")


def test_what_is_kept_is_counted_until_it_is_taken_replaced_read_or_forgotten() -> None:
    together = KeptBytes()
    one, other = KeptRuns(together), KeptRuns(together)
    first, second = run_of("10-0", "11-0"), run_of("20-0", "21-0", "22-0")
    one.keep(first)
    one.keep(second)
    other.keep(first)
    assert together.count == 2 * first.size + second.size
    one.keep(first)  # the same once more
    assert together.count == 2 * first.size + second.size
    assert one.pop_after("10-0") == first
    assert one.pop_after("10-0") is None
    assert together.count == first.size + second.size
    one.drop_through("21-0")
    assert one.pop_after("21-0") == run_of("21-0", "22-0")
    assert (one.any, together.count) == (False, first.size)
    other.forget()
    assert together.count == 0


def test_a_claim_that_would_keep_too_much_keeps_nothing() -> None:
    together = KeptBytes()
    kept = KeptRuns(together)
    kept.keep(run_of("10-0", "11-0", body=MUCH))
    assert kept.any
    kept.keep(run_of("20-0", "21-0", body=MUCH))
    kept.keep(run_of("30-0", "31-0", body=MUCH))
    assert (kept.any, together.count) == (False, 0)


def test_where_all_claims_keep_too_much_the_next_one_keeps_nothing() -> None:
    together = KeptBytes()
    claims = [KeptRuns(together) for _ in range(200)]
    for claim in claims:
        claim.keep(run_of("10-0", "11-0", body=MUCH))
    assert claims[0].any
    assert not claims[-1].any
    assert together.count <= 8 << 20


class _Claim:
    def __init__(self) -> None:
        self.offered: list[tuple[Run, bool]] = []

    def offer(self, run: Run, *, is_last: bool) -> None:
        self.offered.append((run, is_last))


def test_the_last_append_under_way_says_so() -> None:
    appends, claim, run = OwnAppends(), _Claim(), run_of("10-0", "11-0")
    appends.join(2, claim)
    first, second = appends.begin(), appends.begin()
    appends.appended(2, run)
    appends.end(first)
    appends.appended(2, run)
    appends.end(second)
    appends.appended(3, run)
    assert claim.offered == [(run, False), (run, True)]


async def test_only_appends_that_have_begun_are_waited_for() -> None:
    appends = OwnAppends()
    await appends.answered(LONG)
    first, second = appends.begin(), appends.begin()
    waiting = asyncio.create_task(appends.answered(LONG))
    await asyncio.sleep(0)
    third = appends.begin()
    appends.end(second)
    await asyncio.sleep(0)
    assert not waiting.done()
    appends.end(first)
    await waiting
    await appends.answered(0.001)  # the third one stays without an answer
    appends.end(third)


def test_a_claim_that_leaves_late_leaves_the_newer_one_in_its_place() -> None:
    appends, older, newer, run = OwnAppends(), _Claim(), _Claim(), run_of("10-0", "11-0")
    appends.join(2, older)
    appends.join(2, newer)
    appends.leave(2, older)
    assert appends.are_wanted
    appends.appended(2, run)
    assert (older.offered, len(newer.offered)) == ([], 1)
    appends.leave(2, newer)
    assert not appends.are_wanted
