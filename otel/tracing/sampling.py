"""Decides whether a trace is recorded: once, before anything else, by one comparison.

A sampler that is built into the SDK comes down to two facts: whether a parent's decision is kept,
and the bound below which a trace id is sampled. Any other sampler is called.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from otel.tracing.context import Parent

__all__ = ["EVERY", "Ask", "Sampling"]

EVERY = 2**64
"""The bound that samples every trace id."""
_LOW = 2**64 - 1

Ask = Callable[[int, Parent | None], bool]


class Sampling(msgspec.Struct, frozen=True):
    """A sampler's decisions: trace ids whose lower 64 bits are below ``bound`` are sampled.

    ``parent_based``: whether a parent's decision is kept. ``ask``, if set, decides instead.
    """

    bound: int
    parent_based: bool
    ask: Ask | None = None

    def root(self, trace_id: int) -> bool:
        """Decide on a trace that begins here."""
        if self.ask is not None:
            return self.ask(trace_id, None)
        return trace_id & _LOW < self.bound

    def child(self, parent: Parent) -> bool:
        """Decide on a trace that began elsewhere."""
        if self.ask is not None:
            return self.ask(parent.trace_id, parent)
        if self.parent_based:
            return parent.sampled
        return parent.trace_id & _LOW < self.bound
