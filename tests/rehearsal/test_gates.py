"""What a step waited for is told: while it waits, and when there is no more patience."""

from __future__ import annotations

import pytest

from lab.rehearsal.gates import GateRedError, Gates
from lab.rehearsal.timeline import GateMark
from transport.settings import TransportSettings


def gates(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str], patience: float) -> Gates:
    """Gates that answer so, one attempt after the other; the last answer stays."""
    made = Gates(
        "postgresql:///nowhere", TransportSettings(), patience=patience, window=1.0, every=0.05
    )
    left = list(answers)

    async def refused(_: object) -> dict[str, str]:
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(made, "_refused", refused)
    return made


async def test_a_gate_that_stays_red_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = GateMark(frm=2, to=3, begun=0.0)
    red = gates(monkeypatch, {"parity": "red: 2 missing_in_shadow"}, patience=0.0)
    with pytest.raises(GateRedError, match=r"phase 3.*parity is red: 2 missing_in_shadow"):
        await red.pass_to(3, mark)
    assert [gate.name for gate in mark.waited] == ["parity"]


async def test_what_turned_green_is_told_with_how_long_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = GateMark(frm=2, to=3, begun=0.0)
    answers: list[dict[str, str]] = [
        {"shadow": "red: 3 copies wait", "parity": "unknown: nothing"},
        *({"parity": f"red: {n} missing"} for n in (2, 1)),
        {},
    ]
    await gates(monkeypatch, *answers, patience=60.0).pass_to(3, mark)
    shadow, parity = mark.waited
    assert (shadow.name, parity.name, parity.reason) == ("shadow", "parity", "red: 1 missing")
    assert parity.seconds > shadow.seconds
