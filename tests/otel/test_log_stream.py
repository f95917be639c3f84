"""A reader of the log that stands still stops nobody who logs."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from threading import Thread

import pytest
import structlog

from otel.logging import configure
from otel.settings import OtelSettings

LINES = 20_000

pytestmark = pytest.mark.timeout(60)  # without what is tested here, a test would never end


class Reader:
    """The end of a pipe or socket; it reads nothing until it is told to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.data = b""

    def read(self, size: int) -> None:
        self.data += os.read(self._descriptor, size)

    def read_what_is_there(self) -> None:
        os.set_blocking(self._descriptor, False)
        try:
            while piece := os.read(self._descriptor, 65536):
                self.data += piece
        except BlockingIOError:
            return

    def read_to_the_end(self) -> None:
        os.set_blocking(self._descriptor, True)
        while piece := os.read(self._descriptor, 65536):
            self.data += piece

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.data.decode().splitlines()]


@pytest.fixture(params=["pipe", "socket"])
def reader(request: pytest.FixtureRequest, own_logging: None) -> Iterator[Reader]:
    """The reader of this process's log."""
    if request.param == "pipe":
        read, write = os.pipe()
    else:  # as journald's
        read, write = (end.detach() for end in socket.socketpair())
    stream = os.fdopen(write, "w")
    configure(OtelSettings(log_level="INFO"), stream=stream)
    yield Reader(read)
    stream.close()
    os.close(read)


def test_lines_that_nobody_reads_are_left_out_and_counted(reader: Reader):
    log = structlog.get_logger()
    for number in range(LINES):
        log.info("line", number=number)
    reader.read_what_is_there()
    read = len(reader.events)
    assert 0 < read < LINES
    logging.getLogger("a.library").warning("again")
    reader.read_what_is_there()
    told, again = reader.events[read:]
    assert told["event"] == "Log lines were left out: nobody read them"
    assert told["level"] == "warning"
    assert told["left_out"] == LINES - read
    assert again["event"] == "again"


def test_a_reader_that_is_slow_is_not_waited_for(reader: Reader):
    """It is this thread, so a wait would never end."""
    log = structlog.get_logger()
    for number in range(LINES):
        log.info("line", number=number)
        if number % 400 == 0:
            reader.read(4096)


def test_a_long_line_arrives_whole_or_is_cut_off_and_spoils_no_other(reader: Reader):
    log = structlog.get_logger()
    log.info("first", text=3_000_000 * "x")
    reader.read_what_is_there()
    cut = reader.data
    assert b"\n" not in cut
    log.info("second")
    reader.read_what_is_there()
    told, second = map(json.loads, reader.data[len(cut) :].decode().splitlines()[1:])
    assert (told["left_out"], second["event"]) == (1, "second")


def test_a_long_line_that_is_read_arrives_whole(reader: Reader):
    thread = Thread(target=reader.read_to_the_end, daemon=True)
    thread.start()
    structlog.get_logger().info("long", text=3_000_000 * "x")
    deadline = time.monotonic() + 20
    while not reader.data.endswith(b"\n") and time.monotonic() < deadline:
        thread.join(0.01)
    assert reader.events[0]["text"] == 3_000_000 * "x"
