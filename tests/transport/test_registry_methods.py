"""A third party's transport that is made for another release."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from transport import registry
from transport.errors import ConfigurationError
from transport.settings import TransportSettings


class OfAnotherRelease:
    """A transport without methods."""

    def __init__(self, *_: object) -> None:
        pass


def test_a_transport_without_a_method_of_the_contract_is_refused_at_the_start(monkeypatch) -> None:
    entry = EntryPoint("memory", f"{__name__}:OfAnotherRelease", "crossfade.transports")
    monkeypatch.setattr(registry, "_registered", lambda: {"memory": entry})
    with pytest.raises(ConfigurationError, match=r"has no consume, .*reaches"):
        registry.create("memory", TransportSettings(transport="memory"))
