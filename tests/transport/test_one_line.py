"""The texts of errors, as answers and log lines show them."""

from __future__ import annotations

import pytest

from transport.errors import TransportUnavailable, one_line


@pytest.mark.parametrize(
    ("error", "empty", "shown"),
    [
        (TransportUnavailable("no route\n  to host\t6379 "), "", "no route to host 6379"),
        (TimeoutError(), "", "TimeoutError"),
        (TimeoutError(), "no answer in 2 s", "no answer in 2 s"),
        (OSError(" \n"), "", "OSError"),
    ],
)
def test_an_error_is_shown_in_one_line_that_is_not_empty(error, empty, shown):
    assert one_line(error, empty=empty) == shown
