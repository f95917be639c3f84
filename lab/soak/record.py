"""The record of a soak: one JSON object per line, written while the soak runs (docs/soak.md).

The report is made from this file only. So an interrupted soak has a report too, and the soak's own
memory does not grow with its length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from lab.harness.anomaly import Anomaly
from lab.rehearsal.report import Finding, verdict_of
from lab.soak.options import SoakOptions

__all__ = [
    "RecordError",
    "SoakBegan",
    "SoakEnded",
    "SoakFault",
    "SoakRecord",
    "SoakRecorder",
    "SoakRound",
    "SoakSample",
    "read_record",
]

_FINDINGS = 20


class RecordError(Exception):
    """A file is not the record of a soak."""


def _tag(name: str) -> str:
    """Return the tag of a class in the file."""
    return name.removeprefix("Soak").lower()


class _SoakLine(msgspec.Struct, kw_only=True, tag_field="type", tag=_tag, rename="camel"):
    """A line of the file. Times are seconds since the load began."""


class SoakBegan(_SoakLine, kw_only=True):
    """The first line."""

    started_at: str
    options: SoakOptions
    spared: list[str]
    """The processes that faults may suspend, but never end."""


class SoakSample(_SoakLine, kw_only=True):
    """One sample of all series. A series that could not be read is not in ``values``."""

    at: float
    values: dict[str, float]


class SoakRound(_SoakLine, kw_only=True):
    """A judged round. ``rows`` and ``receipts`` count those of its own conversations."""

    number: int
    begun: float
    ended: float
    judged: float
    messages: int
    """Acknowledged messages, each counted once."""
    posts: int
    """Number of requests, including retries."""
    answered: int
    """Number of requests that were answered as they should be."""
    rows: int
    receipts: int
    archived: int = 0
    """Rows of judged rounds that were archived after this round."""
    verdict: dict[str, int] = {}
    """Violations by promise."""
    findings: list[Finding] = []
    """The first violations."""

    def add(self, anomalies: Sequence[Anomaly]) -> None:
        """Add violations."""
        for name, count in verdict_of(anomalies).items():
            self.verdict[name] = self.verdict.get(name, 0) + count
        room = _FINDINGS - len(self.findings)
        self.findings += [Finding(a.what.name, a.where, a.facts) for a in anomalies[:room]]


class SoakFault(_SoakLine, kw_only=True):
    """A fault: when it began, when it was healed, and when the load was seen to go on."""

    victim: str
    way: str
    begun: float
    healed: float | None = None
    went_on: float | None = None


class SoakEnded(_SoakLine, kw_only=True):
    """The last line. ``why`` says why the soak ended early; ``None`` if it did not."""

    at: float
    why: str | None = None
    rounds: int | None = None
    """Number of rounds that began, judged or not; ``None`` if unknown."""


AnyLine = SoakBegan | SoakSample | SoakRound | SoakFault | SoakEnded


class SoakRecorder:
    """Writes the file. Each line is in the file when ``add`` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, line: AnyLine) -> None:
        """Write a line."""
        self._file.write(self._encode(line) + b"\n")
        self._file.flush()


class SoakRecord(msgspec.Struct, kw_only=True):
    """The contents of a record's file."""

    began: SoakBegan
    samples: list[SoakSample] = []
    rounds: list[SoakRound] = []
    faults: list[SoakFault] = []
    ended: SoakEnded | None = None
    """The last line; ``None`` if the soak's process was killed."""

    @property
    def seconds(self) -> float:
        """How long the soak ran, in seconds, according to the file."""
        if self.ended is not None:
            return self.ended.at
        return self.samples[-1].at if self.samples else 0.0

    def series(self) -> Mapping[str, list[tuple[float, float]]]:
        """Return the points (seconds, value) of each series."""
        found: dict[str, list[tuple[float, float]]] = {}
        for sample in self.samples:
            for name, value in sample.values.items():
                found.setdefault(name, []).append((sample.at, value))
        return found


def read_record(path: Path) -> SoakRecord:
    """Read a record's file. An incomplete last line is left out.

    Raises:
        RecordError: the file is not the record of a soak.
    """
    lines = _lines(path)
    began = next(lines, None)
    if not isinstance(began, SoakBegan):
        raise RecordError(f"{os.fspath(path)}: its first line is not that of a soak")
    record = SoakRecord(began=began)
    for line in lines:
        match line:
            case SoakSample():
                record.samples.append(line)
            case SoakRound():
                record.rounds.append(line)
            case SoakFault():
                record.faults.append(line)
            case SoakEnded():
                record.ended = line
    return record


def _lines(path: Path) -> Iterator[AnyLine]:
    decode = msgspec.json.Decoder(AnyLine).decode
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                return
            try:
                yield decode(text)
            except msgspec.DecodeError as error:
                raise RecordError(f"{os.fspath(path)}, line {number}: {error}") from error
