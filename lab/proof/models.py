"""The models that TLC checks, as data: two sizes, and each assumption and rule left out once.

A model is one conversation of two messages, of which the second is sent after the first was
acknowledged, unless it says otherwise. ``docs/proof.md`` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["LARGE", "NOT_EMPTY", "SABOTAGES", "SMALL", "SpecificationModel"]

PROMISES = ("InOrder", "OnceOnly", "NothingLost")


class SpecificationModel(NamedTuple):
    """The constants of one run of ``module``.

    ``old`` and ``new`` are the homes of the messages, and ``after`` has the messages that were
    acknowledged before each was sent.
    """

    name: str
    module: str = "Crossfade"
    old: tuple[int, ...] = (1, 1)
    new: tuple[int, ...] = (2, 2)
    counts: tuple[int, int] = (1, 2)
    after: tuple[str, ...] = ("{}", "{1}")
    start: int = 0
    retries: int = 0
    losses: int = 0
    links: int = 3
    poison: str = "{}"
    broken: str = "none"
    locks: Mapping[str, str] = {}
    invariants: tuple[str, ...] = PROMISES

    def constants(self) -> dict[str, str]:
        """Return the constants of the module, as TLA+ expressions."""
        if self.module == "InsertLock":
            return {"Locks": _function({f'"{log}"': keys for log, keys in self.locks.items()})}
        homes = [_function(dict(enumerate(map(str, log), 1))) for log in (self.old, self.new)]
        return {
            "Messages": f"1..{len(self.after)}",
            "After": _function(dict(enumerate(self.after, 1))),
            "Count": _function({'"old"': str(self.counts[0]), '"new"': str(self.counts[1])}),
            "Home": _function({'"old"': homes[0], '"new"': homes[1]}),
            "Starts": f"{{{self.start}}}",
            "Retries": str(self.retries),
            "Losses": str(self.losses),
            "Links": str(self.links),
            "Poison": self.poison,
            "Broken": f'"{self.broken}"',
        }


def _function(values: Mapping[object, str]) -> str:
    return "(" + " @@ ".join(f"{key} :> {value}" for key, value in values.items()) + ")"


def _broken(name: str, invariant: str, **changes: object) -> SpecificationModel:
    model = SpecificationModel(f"without: {name}", broken=name, invariants=(invariant,))
    return model._replace(**changes)  # type: ignore[arg-type]


_GROWTH = SpecificationModel("1 -> 2 partitions")
_SHRINKAGE = SpecificationModel(
    "2 -> 1 partitions, a dead letter, PostgreSQL goes back",
    old=(2, 2),
    new=(1, 1),
    counts=(2, 1),
    poison="{1}",
    losses=1,
    links=2,
)
_LOCK = SpecificationModel(
    "insert locks by bucket",
    module="InsertLock",
    locks={"old": '{"bucket"}', "new": '{"bucket"}'},
    invariants=("NoRowSkipped",),
)
_MIXED_LOCK = _LOCK._replace(
    name="insert locks of two versions",
    locks={"old": '{"old 1"}', "new": '{"old 1", "bucket"}'},
)

SMALL = (_GROWTH, _SHRINKAGE, _LOCK, _MIXED_LOCK)
"""What ``make check`` runs."""

LARGE = (
    *SMALL,
    _GROWTH._replace(name="1 -> 2 partitions, PostgreSQL goes back", losses=1),
    _GROWTH._replace(name="from phase 5, PostgreSQL goes back", start=5, losses=1),
    _GROWTH._replace(name="a message sent again", retries=1, links=2),
    _GROWTH._replace(
        name="from phase 2, a message sent again, PostgreSQL goes back",
        start=2,
        retries=1,
        losses=1,
        links=2,
    ),
    SpecificationModel(
        "2 -> 3 partitions, two conversations",
        old=(1, 1, 1),
        new=(3, 3, 2),
        counts=(2, 3),
        after=("{}", "{1}", "{}"),
        links=2,
    ),
    SpecificationModel(
        "3 -> 2 partitions, three messages in a row",
        old=(3, 3, 3),
        new=(2, 2, 2),
        counts=(3, 2),
        after=("{}", "{1}", "{1, 2}"),
        links=2,
    ),
)
"""What ``make prove`` runs."""

SABOTAGES = (
    _broken("A1", "InOrder", start=2),
    _broken("A2 home", "InOrder", start=3),
    _LOCK._replace(
        name="without: A2 lock", locks={"old": '{"partition 1"}', "new": '{"partition 2"}'}
    ),
    _broken("A3", "InOrder"),
    _broken("A3", "NothingLost", start=2)._replace(name="without: A3, lost"),
    _broken("A4", "InOrder"),
    _broken("A5", "NothingLost", losses=1),
    _broken("A6", "InOrder", start=3),
    _broken("A6", "NothingLost")._replace(name="without: A6, lost"),
    _broken("unique key", "OnceOnly"),
    _broken("count raised in place", "InOrder", old=(2, 2), new=(1, 1), counts=(2, 1)),
    _broken("gate of processes", "InOrder"),
    _broken("mark", "InOrder", start=1),
    _broken("links", "InOrder", start=1),
    _broken("whole", "InOrder", start=1),
    _broken("closed", "InOrder", start=4),
    _broken("closed", "InOrder", start=2)._replace(name="without: closed, back"),
    _broken("position not compared", "NothingLost", losses=1),
    _broken("links passed for good", "InOrder", losses=1, start=1),
    _broken("chain goes back", "InOrder", losses=1, start=4),
    _broken("answers from rows", "InOrder", losses=1, retries=1, start=2),
)
"""Each has a counterexample."""

NOT_EMPTY = _GROWTH._replace(name="there and back", invariants=("NeverThereAndBack",))
"""The invariant is no promise: that it is violated shows that the model reaches the last phase."""
