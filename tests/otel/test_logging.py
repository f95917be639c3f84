"""Every line is one JSON object with the fields that operators filter by, and keeps secrets."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import structlog

from otel.logging import configure
from otel.settings import OtelSettings


def test_a_line_is_json_with_time_level_event_and_bound_context(logged):
    with structlog.contextvars.bound_contextvars(correlation_id="c-1", trace_id="t-1"):
        structlog.get_logger().info("Worker started for partition 0", partition=0)
    (line,) = logged()
    assert line["event"] == "Worker started for partition 0"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert (line["correlation_id"], line["trace_id"], line["partition"]) == ("c-1", "t-1", 0)


def test_a_library_that_logs_the_usual_way_gives_the_same_lines(logged):
    extra = {"error": "it is gone", "token": "hunter2"}
    logging.getLogger("somebody.else").warning("careful with %s", "that", extra=extra)
    (line,) = logged()
    assert (line["error"], line["token"]) == ("it is gone", "***")
    assert line["event"] == "careful with that"
    assert line["level"] == "warning"
    assert line["logger"] == "somebody.else"


def test_a_password_in_an_address_and_a_named_secret_are_masked(logged):
    structlog.get_logger().warning(
        "no answer from postgresql://user:hunter2@db:5432/x", authorization="Bearer hunter2"
    )
    (line,) = logged()
    assert "hunter2" not in json.dumps(line)
    assert "postgresql://user:***@db:5432/x" in line["event"]


def test_a_password_is_masked_to_its_last_character(logged):
    structlog.get_logger().warning("no answer from redis://user:hunter@2@cache:6379/1")
    (line,) = logged()
    assert line["event"] == "no answer from redis://user:***@cache:6379/1"


def test_the_text_of_an_error_that_may_quote_content_is_withheld(logged):
    try:
        try:
            "\udcff a private message".encode()
        except UnicodeError as error:
            raise RuntimeError("the write failed") from error
    except RuntimeError:
        structlog.get_logger().exception("Failed")
    (line,) = logged()
    assert "the write failed" in line["exception"]
    assert "UnicodeEncodeError" in line["exception"]
    assert "withheld" in line["exception"]
    assert "udcff" not in line["exception"].replace('"\\udcff a private message".encode()', "")


def test_the_level_is_obeyed_by_both_kinds_of_logger(logged):
    structlog.get_logger().debug("not this")
    logging.getLogger("x").debug("nor this")
    assert logged() == []


def test_console_lines_are_for_people(capsys):
    configure(OtelSettings(log_format="CONSOLE", log_level="info"))
    structlog.get_logger().info("Persisted", count=3)
    structlog.reset_defaults()
    assert "Persisted" in capsys.readouterr().err


def test_a_line_that_can_not_be_written_fails_nobody(logged):
    """The disk is full, or the collector at the end of the pipe is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    for broken in (Path("/dev/full").open("w"), os.fdopen(writer, "w")):  # noqa: SIM115
        configure(OtelSettings(), stream=broken)
        structlog.get_logger().warning("to nobody")
        structlog.get_logger().warning("longer than the stream's buffer: " + 100_000 * "x")
        logging.getLogger("somebody.else").warning("to nobody")
        with suppress(OSError):
            broken.close()
