"""These need a container engine: ``make containers`` finds or makes one, and runs only them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.containers.engine import EngineMissing, given_engine
from tests.containers.stack import Stack

MARKER = "containers"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}: needs a container engine (make containers)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out of a run that did not ask for them by their marker."""
    if MARKER in config.option.markexpr:
        return
    ours = [item for item in items if item.get_closest_marker(MARKER)]
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in ours]


@pytest_asyncio.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """The containers, not yet started; all of them are gone in the end, and their volumes too."""
    try:
        made = Stack(given_engine())
    except EngineMissing as missing:
        pytest.skip(f"{missing}: see 'make containers'")
    await asyncio.to_thread(made.down, "--volumes")
    yield made
    await asyncio.to_thread(made.down, "--volumes", "--remove-orphans")
