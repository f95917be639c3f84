"""Tell the command that started the tests: a line of JSON when a test begins or ends.

A plug-in of pytest (``-p tests.containers.progress_lines``). ``CONTAINERS_TELL`` is the open file
to write to.
"""

from __future__ import annotations

import json
import os

import pytest

_FILE = int(os.environ["CONTAINERS_TELL"])


def pytest_collection_finish(session: pytest.Session) -> None:
    _tell(tests=len(session.items))


def pytest_runtest_logstart(nodeid: str) -> None:
    _tell(begins=_title(nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _tell(
            ends=_title(report.nodeid),
            outcome=report.outcome,
            seconds=report.duration,
            figures=dict(report.user_properties),
            why=report.longreprtext,
        )


def _title(nodeid: str) -> str:
    return nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _tell(**event: object) -> None:
    os.write(_FILE, json.dumps(event).encode() + b"\n")
