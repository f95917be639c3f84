"""Check one model by TLC, and read its verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lab.proof.models import SpecificationModel
from lab.specification.tlc import CheckerError, run_tlc

__all__ = ["ModelVerdict", "check"]

_COUNTED = re.compile(r"([\d,]+) states generated.*?, ([\d,]+) distinct states found")
_DEPTH = re.compile(r"depth of the complete state graph search is (\d+)")
_VIOLATED = re.compile(r"Error: Invariant (\w+) is violated")
_STATE = re.compile(r"State \d+: <(\w+(?: predicate)?)")
_VARIABLE = re.compile(r"/\\ (\w+) = ")
_CLEAN = "Model checking completed. No error has been found."


class ModelVerdict(NamedTuple):
    """What TLC found: ``violated`` names the invariant that does not hold, ``trace`` how it broke.

    The trace has one text for each step: the action, and the variables that it changed.
    """

    states: int
    depth: int
    seconds: float
    violated: str | None
    trace: tuple[str, ...]


def check(
    model: SpecificationModel,
    told: Callable[[int], None] = lambda _: None,
    *,
    large: bool = False,
) -> ModelVerdict:
    """Check every state of ``model``, or as many as it takes to find a violation.

    Args:
        model: What to check.
        told: Is called with the number of distinct states from time to time.
        large: Whether it takes minutes, so that it is worth compiling TLC thoroughly.

    Raises:
        CheckerMissingError: There is no Java, or no TLC.
        CheckerError: TLC failed, or the model has an error.
    """

    def heard(line: str) -> None:
        if line.startswith("Progress(") and (found := _COUNTED.search(line)):
            told(_number(found[2]))

    began = time.monotonic()
    lines = run_tlc(_module(model), _configuration(model), workers=2 if large else 1, heard=heard)
    return _verdict(lines, time.monotonic() - began)


def _module(model: SpecificationModel) -> str:
    values = "\n".join(f"c{name} == {value}" for name, value in model.constants().items())
    return f"---- MODULE Run ----\nEXTENDS {model.module}, TLC\n{values}\n====\n"


def _configuration(model: SpecificationModel) -> str:
    constants = "\n".join(f"  {name} <- c{name}" for name in model.constants())
    return f"SPECIFICATION Spec\nCONSTANTS\n{constants}\nINVARIANTS {' '.join(model.invariants)}\n"


def _verdict(lines: list[str], seconds: float) -> ModelVerdict:
    text = "\n".join(lines)
    counted, depth = _COUNTED.findall(text), _DEPTH.search(text)
    violated = _VIOLATED.search(text)
    if not counted or not depth or (violated is None and _CLEAN not in text):
        raise CheckerError(text)
    return ModelVerdict(
        states=_number(counted[-1][1]),
        depth=int(depth[1]),
        seconds=seconds,
        violated=violated[1] if violated else None,
        trace=tuple(_steps(lines)),
    )


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _steps(lines: list[str]) -> Iterator[str]:
    """Yield each step of the counterexample with the variables that it changed."""
    known: dict[str, str] = {}
    action, state = "", dict[str, str]()
    for line in [*lines, "State 0: <end"]:
        if found := _STATE.match(line):
            if action:
                changed = [text for name, text in state.items() if known.get(name) != text]
                yield "\n    ".join([action, *changed])
                known = state
            action, state, name = found[1], {}, ""
        elif action and (found := _VARIABLE.match(line)):
            name = found[1]
            state[name] = line
        elif action and line.startswith(" ") and state:
            state[name] += "\n    " + line
