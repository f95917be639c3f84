"""The gates of a step: each checks one condition, changes nothing, and gives a reason.

The answer is green, red or unknown. Each gate is a file with ``NAME`` and ``gate``; ``clocks`` and
``losses`` are no gates, but measure something for several. Gates may use
``migration_guide.parity``; they never change the migration's state (``migration_guide.machine``
does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from migration_guide.gates import (
    drained,
    dropped,
    durability,
    homes,
    identity,
    parity,
    processes,
    shadow,
    start,
    watermark,
    workers,
)
from migration_guide.gates.result import Gate, GateResult, Scene, red, unknown
from migration_guide.meant_log import WrongLogError
from persistence.errors import PersistenceError
from transport.errors import ConfigurationError, TransportError, one_line

__all__ = ["ACCEPTABLE", "GATES", "OVERRIDABLE", "judge"]

GATES: dict[str, Gate] = {
    module.NAME: module.gate
    for module in (
        processes,
        identity,
        workers,
        homes,
        shadow,
        dropped,
        watermark,
        parity,
        start,
        drained,
        durability,
    )
}
"""Every gate by its name."""

OVERRIDABLE = frozenset({"durability", "workers", "parity"})
"""Gates that an operator may overrule when red, with a reason: nothing acknowledged is at stake."""
ACCEPTABLE = frozenset(GATES) - {"processes"}
"""Gates whose ``unknown`` an operator may accept, with a reason; a silent process is forgotten."""

_WITHIN_SECONDS = 60.0


async def judge(scene: Scene, names: Sequence[str]) -> list[GateResult]:
    """Return every gate's answer, in order. A gate that can't check is unknown, never green."""
    return [await _judge(scene, name) for name in names]


async def _judge(scene: Scene, name: str) -> GateResult:
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            return await GATES[name](scene)
    except TimeoutError:
        return unknown(name, f"no answer within {_WITHIN_SECONDS:.0f} s")
    except WrongLogError as error:
        return red(name, "judged by other settings", remedy=one_line(error))
    except ConfigurationError as error:
        return unknown(name, "can't be judged", remedy=one_line(error))
    except (TransportError, PersistenceError) as error:
        return unknown(name, f"can't be judged: {one_line(error)}")
