"""The models that TLC checks, as data: two sizes, and each assumption, gate and rule left out once.

A model is one conversation of two messages, of which the second is sent after the first was
acknowledged, unless it says otherwise. ``docs/proof.md`` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["LARGE", "NOT_EMPTY", "SABOTAGES", "SMALL", "SpecificationModel"]

PROMISES = ("InOrder", "OnceOnly", "NothingLost")


class SpecificationModel(NamedTuple):
    """The constants of one run of ``module``.

    ``old`` and ``new`` are the homes of the messages, and ``after`` has the messages that were
    acknowledged before each was sent. ``losses`` and ``links`` are constants of ``OnePosition``.
    ``reduced`` lets states that differ in nothing that still matters be one: see ``Eager`` and
    ``Future`` in ``Crossfade``.
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
    reduced: bool = False

    def constants(self) -> dict[str, str]:
        """Return the constants of the module, as TLA+ expressions."""
        if self.module == "InsertLock":
            return {"Locks": _function({f'"{log}"': keys for log, keys in self.locks.items()})}
        homes = [_function(dict(enumerate(map(str, log), 1))) for log in (self.old, self.new)]
        bounds = {"Losses": str(self.losses), "Links": str(self.links)}
        return {
            "Messages": f"1..{len(self.after)}",
            "After": _function(dict(enumerate(self.after, 1))),
            "Count": _function({'"old"': str(self.counts[0]), '"new"': str(self.counts[1])}),
            "Home": _function({'"old"': homes[0], '"new"': homes[1]}),
            "Starts": f"{{{self.start}}}",
            "Retries": str(self.retries),
            "Poison": self.poison,
            "Broken": f'"{self.broken}"',
            **(bounds if self.module == "OnePosition" else {}),
        }


def _function(values: Mapping[object, str]) -> str:
    return "(" + " @@ ".join(f"{key} :> {value}" for key, value in values.items()) + ")"


def _broken(name: str, invariant: str, **changes: object) -> SpecificationModel:
    model = SpecificationModel(f"without: {name}", broken=name, invariants=(invariant,))
    return model._replace(**changes)  # type: ignore[arg-type]


def _one_without(name: str, invariant: str, **changes: object) -> SpecificationModel:
    model = _broken(name, invariant, **changes)
    return model._replace(name=f"one position, {model.name}", module="OnePosition")


_GROWTH = SpecificationModel("1 -> 2 partitions")
_SHRINKAGE = SpecificationModel(
    "2 -> 1 partitions, a dead letter", old=(2, 2), new=(1, 1), counts=(2, 1), poison="{1}"
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

_ONE = _GROWTH._replace(name="one position, 1 -> 2 partitions", module="OnePosition")
_ONE_SHRINKAGE = _SHRINKAGE._replace(
    name="one position, 2 -> 1 partitions, a dead letter, PostgreSQL goes back",
    module="OnePosition",
    losses=1,
    links=2,
)

_REDUCED: Any = {"reduced": True, "invariants": (*PROMISES, "NoOrphan")}

SMALL = (
    _GROWTH._replace(**_REDUCED),
    _SHRINKAGE._replace(**_REDUCED),
    _ONE,
    _ONE_SHRINKAGE,
    _LOCK,
    _MIXED_LOCK,
)
"""What ``make check`` runs."""

LARGE = (
    *SMALL,
    _GROWTH._replace(name="1 -> 2 partitions, not reduced"),
    _SHRINKAGE._replace(name="2 -> 1 partitions, a dead letter, not reduced"),
    SpecificationModel(
        "2 -> 3 partitions, two conversations",
        old=(1, 1, 1),
        new=(3, 3, 2),
        counts=(2, 3),
        after=("{}", "{1}", "{}"),
        **_REDUCED,
    ),
    SpecificationModel("1 -> 2 partitions, a message sent again", retries=1, **_REDUCED),
    SpecificationModel(
        "3 -> 2 partitions, three messages in a row",
        old=(3, 3, 3),
        new=(2, 2, 2),
        counts=(3, 2),
        after=("{}", "{1}", "{1, 2}"),
        **_REDUCED,
    ),
    _ONE._replace(name="one position, 1 -> 2, PostgreSQL goes back", losses=1),
    _ONE._replace(name="one position, from phase 5, PostgreSQL goes back", start=5, losses=1),
    _ONE._replace(name="one position, a message sent again", retries=1, links=2),
    _ONE._replace(
        name="one position, a message sent again, PostgreSQL goes back",
        start=2,
        retries=1,
        losses=1,
        links=2,
    ),
    _ONE._replace(
        name="one position, 2 -> 3 partitions, two conversations",
        old=(1, 1, 1),
        new=(3, 3, 2),
        counts=(2, 3),
        after=("{}", "{1}", "{}"),
        links=2,
    ),
    _ONE._replace(
        name="one position, 3 -> 2 partitions, three messages in a row",
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
    _broken("A5", "OnceOnly", start=3),
    _broken("A6 rules", "InOrder", start=1),
    _broken("A6 log", "InOrder", start=3),
    _broken("A6 log", "NothingLost")._replace(name="without: A6 log, lost"),
    _broken("gate of processes", "InOrder"),
    _broken("gate of 2 to 3", "InOrder", start=1),
    _broken("gate of 4 to 3", "InOrder", start=5),
    _broken("unique key", "OnceOnly"),
    _broken("count raised in place", "InOrder", old=(2, 2), new=(1, 1), counts=(2, 1)),
    _broken(
        "orphan looked up by its own partition",
        "InOrder",
        start=1,
        old=(2, 2),
        new=(1, 1),
        counts=(2, 1),
    ),
    _one_without("A1", "InOrder", start=2),
    _one_without("A2 home", "InOrder", start=3),
    _one_without("A3", "InOrder"),
    _one_without("A3", "NothingLost", start=2)._replace(name="one position, without: A3, lost"),
    _one_without("A4", "InOrder"),
    _one_without("A6", "InOrder", start=3),
    _one_without("A6", "NothingLost")._replace(name="one position, without: A6, lost"),
    _one_without("unique key", "OnceOnly"),
    _one_without("count raised in place", "InOrder", old=(2, 2), new=(1, 1), counts=(2, 1)),
    _one_without("gate of processes", "InOrder"),
    _one_without("mark", "InOrder", start=1),
    _one_without("links", "InOrder", start=1),
    _one_without("whole", "InOrder", start=1),
    _one_without("closed", "InOrder", start=4),
    _one_without("closed", "InOrder", start=2)._replace(name="one position, without: closed, back"),
    _one_without("position apart", "NothingLost", losses=1),
    _one_without("position not compared", "NothingLost", losses=1),
    _one_without("links passed for good", "InOrder", losses=1, start=1),
    _one_without("chain goes back", "InOrder", losses=1, start=4),
    _one_without("answers from rows", "InOrder", losses=1, retries=1, start=2),
)
"""Each has a counterexample."""

NOT_EMPTY = tuple(
    model._replace(name=f"{model.module}, there and back", invariants=("NeverThereAndBack",))
    for model in (_GROWTH, _ONE)
)
"""The invariant is no promise: that it is violated shows that a model reaches the last phase."""
