"""Fair shares, moving as few partitions as possible."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from transport.assignment import fair_shares

names = st.sampled_from("abcdefgh")
members = st.lists(names, min_size=1, unique=True)
owners = st.lists(st.none() | names, min_size=1, max_size=40)


@given(members, owners)
def test_every_partition_goes_to_a_live_member_and_shares_differ_by_one_at_most(
    live: list[str], before: list[str | None]
) -> None:
    shares = fair_shares(live, before)
    assert len(shares) == len(before)
    assert set(shares) <= set(live)
    sizes = [Counter(shares)[member] for member in live]
    assert max(sizes) - min(sizes) <= 1


@given(members, owners)
def test_no_more_partitions_move_than_must(live: list[str], before: list[str | None]) -> None:
    shares = fair_shares(live, before)
    held = Counter(owner for owner in before if owner in live)
    least, larger = divmod(len(before), len(live))
    # The best that can be: each keeps up to its share, the larger shares where most is held.
    sizes = sorted((held[member] for member in live), reverse=True)
    kept = sum(min(size, least + (rank < larger)) for rank, size in enumerate(sizes))
    assert sum(old == new for old, new in zip(before, shares, strict=True)) == kept


@given(members, owners)
def test_a_fair_division_is_left_as_it_is(live: list[str], before: list[str | None]) -> None:
    settled = fair_shares(live, before)
    assert fair_shares(live, settled) == settled


@given(members, owners, st.randoms())
def test_members_that_see_the_others_in_another_order_agree(live, before, chance) -> None:
    shuffled = list(live)
    chance.shuffle(shuffled)
    assert fair_shares(shuffled, before) == fair_shares(live, before)
