"""What the name of a log says, and what is no name."""

from __future__ import annotations

import pytest

from transport.errors import ConfigurationError
from transport.log_name import LogName


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis", ("redis", None, None)),
        ("redis@32", ("redis", None, 32)),
        ("kafka.eu", ("kafka", "eu", None)),
        ("kafka.eu@32", ("kafka", "eu", 32)),
        ("my-log_2.b7@1", ("my-log_2", "b7", 1)),
        ("redis@4096", ("redis", None, 4096)),
    ],
)
def test_a_name_says_kind_label_and_count_and_is_printed_as_it_was(text, parts):
    name = LogName.parse(text)
    assert tuple(name) == parts
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "Redis", "redis@", "redis@0", "redis@016", "redis@4097", "redis@-1", "redis@\u0663",
        "redis.", "redis.EU", "redis.e_u", "redis.a.b", "redis@1@2", "@32", ".eu", "redis@32.eu",
        "redis.eu@32 ", "redis:1", "redis." + "x" * 17,
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_variable_and_the_remedy(text):
    with pytest.raises(ConfigurationError) as caught:
        LogName.parse(text, variable="CONSUME_FROM")
    said = str(caught.value)
    assert said.startswith(f"CONSUME_FROM={text!r} is not the name of a log; write ")
    assert "redis@32" in said


def test_only_a_count_makes_the_names_of_streams_and_topics_longer():
    assert LogName.parse("kafka.eu").suffix(".") == ""
    assert LogName.parse("kafka.eu@32").suffix(".") == ".32"
