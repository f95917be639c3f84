"""What can be wrong with a shadow, done to the proxy in front of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.fault_proxy import FaultProxy

__all__ = ["FAULTS"]


def _refusing(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()


def _cut_off(proxy: FaultProxy) -> None:
    proxy.black_hole()
    proxy.reset()


def _slow(proxy: FaultProxy) -> None:
    proxy.delay(3.0)


FAULTS: Mapping[str, Callable[[FaultProxy], None]] = {
    "refusing": _refusing,
    "hanging": FaultProxy.black_hole,
    "black-holed": _cut_off,
    "slow": _slow,
}
