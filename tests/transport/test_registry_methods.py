"""A third party's transport that was written for another contract, or that is not complete."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from transport import registry
from transport.contract import CONTRACT
from transport.errors import ConfigurationError
from transport.settings import TransportSettings


class Incomplete:
    """A transport without methods."""

    contract = CONTRACT

    def __init__(self, *_: object) -> None:
        pass


class Newer(Incomplete):
    """A transport for a contract that is not there yet."""

    contract = "1000.1"


def registered(monkeypatch, made: type) -> None:
    entry = EntryPoint("memory", f"{__name__}:{made.__name__}", "crossfade.transports")
    monkeypatch.setattr(registry, "_registered", lambda: {"memory": entry})


def test_a_transport_without_a_method_of_the_contract_is_refused_at_the_start(monkeypatch) -> None:
    registered(monkeypatch, Incomplete)
    with pytest.raises(ConfigurationError, match=r"'memory' has no dead_letter, .*reaches"):
        registry.create("memory", TransportSettings(transport="memory"))


def test_a_transport_for_another_contract_is_refused_with_both_versions(monkeypatch) -> None:
    registered(monkeypatch, Newer)
    with pytest.raises(ConfigurationError, match=rf"for 1000\.1 .*has {CONTRACT}: install"):
        registry.create("memory", TransportSettings(transport="memory"))
