"""Two texts that say the same of two records are one cause; two causes are never one."""

from __future__ import annotations

import random
import time

import pytest

from persistence.dead_letters.cause import LONGEST_CAUSE, cause_of
from persistence.dead_letters.rows import conversation_in


@pytest.mark.parametrize(
    ("one", "other", "cause"),
    [
        (
            'invalid byte sequence for encoding "UTF8": 0x00',
            'invalid byte sequence for encoding "UTF8": 0xff 0xfe',
            'invalid byte sequence for encoding "UTF8": <n>',
        ),
        (
            "record 1795658271335-0 at 2026-11-26T08:00:01.123Z took 12.5 s",
            "record 17-3 at 2026-11-26 took -3 s",
            "record <n> at <time> took <n> s",
        ),
        (
            "Key (message_id)=(5f0c5c6e-1111-8222-9333-123456789abc) is not there",
            "Key (message_id)=(00000000-0000-8000-8000-000000000001) is not there",
            "Key (message_id)=(<id>) is not there",
        ),
        ("conversation t40565c1e18a1 is closed", "conversation a_7-b_8-c is closed", None),
        ("no field 'a\nb' in `$.x[3]`", "no  field 'it' in `$`", "no field '…' in '…'"),
        ('can\'t do "this"', "can't do \"that or 'that'\"", "can't do '…'"),
    ],
)
def test_what_differs_from_letter_to_letter_is_left_out(one, other, cause):
    found = cause_of(one)
    assert cause_of(other).startswith(found[:20])
    if cause is not None:
        assert found == cause
        if "0xff" not in other:
            assert cause_of(other) == cause


def test_what_says_what_is_wrong_stays():
    key = 'duplicate key value violates unique constraint "{}"'
    assert cause_of(key.format("messages_pkey")) == key.format("messages_pkey")
    assert cause_of(key.format("a")) != cause_of(key.format("b"))
    plain = "the key was used before, with another body; the first one stays"
    assert cause_of(plain) == plain
    assert cause_of("can't and won't") == "can't and won't"


def test_a_cause_is_short_and_found_in_no_time_whatever_the_text_is():
    draw = random.Random(14)
    for _ in range(500):
        part = "".join(draw.choices("a1-_.,:/ '\"`T0xZ+é\u202e\n", k=draw.randint(1, 12)))
        began = time.process_time()
        cause = cause_of(part * 400)
        assert time.process_time() - began < 0.1
        assert len(cause) <= LONGEST_CAUSE
        assert cause == " ".join(cause.split())


@pytest.mark.parametrize(
    ("key", "conversation"),
    [
        (b"room-7", "room-7"),
        ("Straße 9".encode(), "Straße 9"),
        (b"", None),
        (b"\xff\xfe", None),
        (b"a\0b", None),
        ("\u202eabc".encode(), None),
        (b"k" * 257, None),
    ],
)
def test_a_key_that_can_be_read_names_the_conversation(key, conversation):
    assert conversation_in(key) == conversation
