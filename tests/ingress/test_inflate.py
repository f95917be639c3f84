"""Any compressed bytes, however they come: the whole or a refusal, and nothing else."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingress.schema.problems import MALFORMED, Problem
from ingress.web.inflate import Inflater

# Long enough for several steps, in and out; some of it compresses well and some does not.
_texts = st.one_of(
    st.binary(max_size=200),
    st.builds(bytes, st.integers(0, 300_000)),
    st.builds(
        lambda seed, size: (seed * size)[:size], st.binary(min_size=1), st.integers(0, 9_000)
    ),
    st.randoms(use_true_random=False).map(lambda one: one.randbytes(20_000)),
)
_cuts = st.lists(st.floats(0, 1), max_size=5)


def _inflated(coding: bytes, data: bytes, cuts: list[float]) -> bytes:
    grown: list[int] = []
    inflater = Inflater(coding, grown.append)
    places = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    pieces: list[bytes] = []
    for start, end in itertools.pairwise(places):
        for piece in inflater.take(data[start:end]):
            pieces.append(piece or b"")
            assert len(pieces[-1]) <= 64 * 1024
    inflater.end()
    assert sum(grown) == sum(map(len, pieces))
    return b"".join(pieces)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(_texts, min_size=1, max_size=4), _cuts)
async def test_members_of_gzip_are_one_text(texts: list[bytes], cuts: list[float]) -> None:
    data = b"".join(gzip.compress(text) for text in texts)
    assert _inflated(b"gzip", data, cuts) == b"".join(texts)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(_texts, st.integers(0, 9), _cuts)
async def test_deflate_is_one_text(text: bytes, level: int, cuts: list[float]) -> None:
    assert _inflated(b"deflate", zlib.compress(text, level), cuts) == text


@settings(max_examples=50, derandomize=True, deadline=None)
@given(_texts, st.sampled_from([b"gzip", b"deflate"]), st.data())
async def test_what_is_cut_or_followed_by_anything_is_refused(
    text: bytes, coding: bytes, data: st.DataObject
) -> None:
    whole = gzip.compress(text) if coding == b"gzip" else zlib.compress(text)
    shorter = whole[: data.draw(st.integers(0, len(whole) - 1))]
    longer = whole + data.draw(st.binary(min_size=1, max_size=9))
    for broken in (shorter, longer):
        with pytest.raises(Problem) as caught:
            _inflated(coding, broken, data.draw(_cuts))
        assert caught.value.kind is MALFORMED
