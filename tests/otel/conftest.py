"""Log lines, read back as data."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from otel.logging import configure
from otel.settings import OtelSettings


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Let the test configure logging: afterwards it is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def logged(own_logging: None) -> Callable[[], list[dict[str, str]]]:
    """Configure logging as JSON; calling it returns the lines so far."""
    out = io.StringIO()
    configure(OtelSettings(), stream=out, private_errors=(UnicodeError,))
    return lambda: [json.loads(line) for line in out.getvalue().splitlines()]
