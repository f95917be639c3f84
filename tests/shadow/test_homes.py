"""One home for each conversation in each log, whatever the counts (I1), and one cell (I6)."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_guide.parity.cells import Cell, cells
from tests.persistence.samples import message, receipt
from tests.shadow.log_pair import everything
from transport.contract import Appended, Envelope, Record, Topic
from transport.memory import MemoryTransport
from transport.message.envelope import HEADER_MIRROR_PARTITION, seal_message, seal_receipt
from transport.settings import TransportSettings
from transport.shadow.copies import mirrored
from transport.shadow.homes import counterpart, home_of
from transport.shadow.mirror import Mirror
from transport.shadow.origin import Origin, origin_of
from transport.shadow.transport import ShadowTransport

COUNTS = st.integers(1, 40)


class Log(msgspec.Struct):
    """What a home is computed from."""

    name: str
    partitions: int


def recorded(envelope: Envelope, offset: str = "0") -> Record:
    headers = {name: value.encode() for name, value in envelope.headers.items()}
    return Record(
        Topic.MESSAGES, envelope.partition, offset, envelope.key, envelope.body, headers, 0.0
    )


@given(st.text(min_size=1), COUNTS, COUNTS)
def test_a_conversation_has_one_home_which_each_of_its_records_tells(
    conversation: str, here: int, there: int
) -> None:
    sent = message("c1", conversation)
    seals: list[Callable[[int], Envelope]] = [
        lambda n: seal_message(sent, partitions=n, traceparent=None),
        lambda n: seal_receipt(receipt(sent), partitions=n, traceparent=None),
    ]
    homes = {seal(there).partition for seal in seals}
    for seal in seals:
        homes.add(home_of(seal(here), here, there))
        homes.add(home_of(recorded(seal(here)), here, there))
    assert len(homes) == 1


@given(st.binary(max_size=40), st.data(), COUNTS, COUNTS)
def test_whoever_appended_it_a_record_and_its_copy_are_in_one_cell(
    key: bytes, data: st.DataObject, here: int, there: int
) -> None:
    """Also a foreign producer's, that stands anywhere and whose key may be anything."""
    one, other = Log("one", here), Log("other", there)
    text = key.decode("utf-8", "surrogateescape")
    envelope = Envelope("id", data.draw(st.integers(0, here - 1)), text, b"body", {})
    original = recorded(envelope)
    home = home_of(original, here, there)
    copy = recorded(mirrored(envelope, Origin("one", envelope.partition, "0"), "sync", home=home))
    cell = Cell(original.partition, counterpart(original, one, other))
    assert cell == Cell(counterpart(copy, other, one), copy.partition)
    every = cells(here, there)
    assert every.count(cell) == 1
    assert len(every) == len(set(every)) == lcm(here, there)
    if here == there:
        assert home == envelope.partition
        assert HEADER_MIRROR_PARTITION not in copy.headers


@given(st.integers(0, 60), st.integers(0, 39), COUNTS, COUNTS)
def test_a_copy_that_says_what_cannot_be_is_in_a_cell_all_the_same(
    said: int, stands: int, here: int, there: int
) -> None:
    one, other = Log("one", here), Log("other", there)
    envelope = Envelope("id", said, "key", b"body", {})
    of = Origin("one", said, "0")
    copy = recorded(mirrored(envelope, of, "sync", home=stands % there))
    assert Cell(counterpart(copy, other, one), copy.partition) in cells(here, there)


@pytest.mark.parametrize(("here", "there"), [(16, 32), (32, 16), (16, 24)])
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_copies_go_home_and_name_the_originals_partition(
    mode: str, here: int, there: int
) -> None:
    settings = TransportSettings(stream_partitions=here, transport_shadow_mode=mode)
    primary = MemoryTransport(settings)
    shadow = MemoryTransport(settings.model_copy(update={"stream_partitions": there}))
    mirror = Mirror(shadow, primary="memory", settings=settings)
    sent = [message(f"c{n}", f"conversation {n}") for n in range(300)]
    envelopes = [seal_message(original, partitions=here, traceparent=None) for original in sent]
    async with ShadowTransport(primary, mirror) as both:
        outcomes = await both.publish(envelopes)
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert mirror.status().dropped == 0
    originals = {(r.partition, r.offset): r for r in await everything(primary)}
    copies = await everything(shadow)
    assert len(copies) == len(originals) == 300
    for copy in copies:
        origin = origin_of(copy)
        assert origin is not None
        original = originals.pop((origin.partition, origin.offset))
        assert (copy.key, copy.body) == (original.key, original.body)
        assert copy.partition == home_of(original, here, there)
        differs = copy.partition != original.partition
        assert (HEADER_MIRROR_PARTITION in copy.headers) == differs
