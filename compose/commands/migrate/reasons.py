"""``--accept-unknown`` and ``--overrule``: reasons to pass gates that are not green."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NamedTuple, Self

import typer

from migration_guide.gates import ACCEPTABLE, OVERRIDABLE
from migration_guide.gates.result import GateResult
from migration_guide.phases import STEPS
from migration_guide.steps import passed, refused

__all__ = ["Accept", "AcceptAt", "GateReasons", "Overrule", "OverruleAt", "reasons_by_phase"]

_AT = re.compile(r"(?P<phase>[0-5]):(?P<given>.*)", re.DOTALL)

Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-unknown",
        metavar="GATE=REASON",
        help="Go on although this gate can't tell; repeat for each. Recorded with its reason.",
    ),
]
Overrule = Annotated[
    list[str] | None,
    typer.Option(
        "--overrule",
        metavar="GATE=REASON",
        help="Go on although this gate is red (durability, workers, parity only); repeat for each. "
        "Recorded with its reason.",
    ),
]
AcceptAt = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-unknown",
        metavar="PHASE:GATE=REASON",
        help="In the step to this phase, go on although this gate can't tell; repeat for each. "
        "Recorded with its reason.",
    ),
]
OverruleAt = Annotated[
    list[str] | None,
    typer.Option(
        "--overrule",
        metavar="PHASE:GATE=REASON",
        help="In the step to this phase, go on although this gate is red (durability, workers, "
        "parity only); repeat for each. Recorded with its reason.",
    ),
]


class GateReasons(NamedTuple):
    """The operator's reasons to pass gates in one step, by gate."""

    accepted: Mapping[str, str] = {}
    overruled: Mapping[str, str] = {}

    @classmethod
    def of(cls, accept_unknown: Sequence[str] | None, overrule: Sequence[str] | None) -> Self:
        """Read the options.

        Raises:
            typer.BadParameter: a gate can't be passed, has no reason, or is named twice.
        """
        return cls(
            _read(
                accept_unknown or (), ACCEPTABLE, "--accept-unknown", "accepted when it can't tell"
            ),
            _read(overrule or (), OVERRIDABLE, "--overrule", "overruled"),
        )

    def in_the_way(self, results: Sequence[GateResult]) -> list[GateResult]:
        """Return the gates that stand in the way of the step."""
        return refused(results, accepted=self.accepted, overridden=self.overruled)

    def passed(self, results: Sequence[GateResult]) -> dict[str, str]:
        """Return the reason for passing each gate that is not green."""
        return passed(results, accepted=self.accepted, overridden=self.overruled)


def reasons_by_phase(
    accept_unknown: Sequence[str] | None, overrule: Sequence[str] | None
) -> dict[int, GateReasons]:
    """Read the options of several steps; return the reasons of each step by its target phase.

    A reason is for one step: in the next step, the same gate may be red for another cause.

    Raises:
        typer.BadParameter: an option names no phase, or a gate that no step to that phase checks;
            or for the reasons of ``GateReasons.of``.
    """
    accepted, overruled = _by_phase(accept_unknown or ()), _by_phase(overrule or ())
    return {
        phase: GateReasons.of(accepted[phase], overruled[phase])
        for phase in {*accepted, *overruled}
    }


def _by_phase(given: Sequence[str]) -> defaultdict[int, list[str]]:
    found = defaultdict[int, list[str]](list)
    for option in given:
        at = _AT.fullmatch(option)
        if at is None:
            raise typer.BadParameter(
                f"{option!r}: say in the step to which phase, as 3:durability='the reason'"
            )
        phase, gate = int(at["phase"]), at["given"].partition("=")[0]
        asked = {name for step in STEPS if step.to == phase for name in step.gates}
        if gate in ACCEPTABLE - asked:
            raise typer.BadParameter(f"{option!r}: no step to phase {phase} asks the gate {gate}")
        found[phase].append(at["given"])
    return found


def _read(given: Sequence[str], gates: Collection[str], option: str, can_be: str) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for text in given:
        gate, _, reason = text.partition("=")
        if gate not in gates:
            raise typer.BadParameter(
                f"{gate!r} is no gate that can be {can_be}: those are {', '.join(sorted(gates))}",
                param_hint=option,
            )
        if not reason.strip():
            raise typer.BadParameter(
                f"{text!r}: say why, as {gate}='the reason'", param_hint=option
            )
        if gate in reasons:
            raise typer.BadParameter(
                f"{gate} is named twice: give it one reason", param_hint=option
            )
        reasons[gate] = reason.strip()
    return reasons
