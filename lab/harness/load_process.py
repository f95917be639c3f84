"""Runs a load in a process of its own, so that checks in this process don't distort its times.

The process is ``python -m lab.harness``. On standard input it reads a ``Start``, then a
``TargetState`` each time an ingress stops or starts; it stops at the end of its input. It writes
each attempt to standard output when the attempt has ended. Each is one JSON object on one line.
Times are of the machine's monotonic clock, which both processes share.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Self

import msgspec

from lab.harness.history import ClientAttempt, ClientHistory, Outcome
from lab.harness.load import Load, LoadOptions, Target, acknowledges

__all__ = ["LoadEndedError", "LoadProcess", "serve"]

_LOOK_SECONDS = 0.01
_LONGEST_LINE = 1 << 20


class LoadEndedError(Exception):
    """The load's process ended by itself. Requests that it had under way are not in the history."""

    def __init__(self, status: int) -> None:
        how = (
            f"was ended by {signal.Signals(-status).name}"
            if status < 0
            else f"ended with status {status}; it wrote why to standard error"
        )
        super().__init__(f"the load's process {how}")


class TargetState(msgspec.Struct, kw_only=True):
    """The state of an ingress; a ``Target`` on the other side of the pipe."""

    name: str
    url: str
    up: bool
    phase: int | None


class Start(msgspec.Struct):
    """The first line of the process's input."""

    options: LoadOptions
    targets: list[TargetState]


_encode = msgspec.json.Encoder().encode


class LoadProcess:
    """Runs the load's process until the block ends, and adds its attempts to ``history``.

    After an error in the block the load still ends in order: requests under way belong to the
    history, or the checker would take their rows for made up.
    """

    def __init__(
        self, history: ClientHistory, targets: Sequence[Target], options: LoadOptions
    ) -> None:
        self.acknowledged = 0
        self.answered = 0
        """Number of requests that were answered as they should be."""
        self.unanswered = 0
        """Number of requests that were not."""
        self._history = history
        self._targets = targets
        self._options = options
        self._process: Process
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "lab.harness",
            stdin=PIPE,
            stdout=PIPE,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C reaches only this process, which ends it in order
        )
        states = self._states()
        self._tell(Start(self._options, states))
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch(states))]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        reading, watching = self._tasks
        watching.cancel()
        if kind is not None and not issubclass(kind, Exception):
            self._process.kill()  # cancelled: the history is not needed
        assert self._process.stdin
        self._process.stdin.close()
        await asyncio.gather(watching, return_exceptions=True)
        await reading
        self._history.in_order()
        if (status := await self._process.wait()) and kind is None:
            raise LoadEndedError(status)

    @property
    def pid(self) -> int:
        """The id of the load's process."""
        return self._process.pid

    async def goes_on(self, messages: int = 100, within: float = 120.0) -> None:
        """Wait until this many more messages are acknowledged.

        Raises:
            StuckError: none was acknowledged for ``within`` seconds.
            LoadEndedError: the load's process has ended.
        """
        await acknowledges(self._count, messages, within)

    def must_run(self) -> None:
        """Raise ``LoadEndedError`` if the load's process has ended."""
        if self._process.returncode is not None:
            raise LoadEndedError(self._process.returncode)

    def _count(self) -> int:
        self.must_run()
        return self.acknowledged

    async def _read(self) -> None:
        assert self._process.stdout
        decode = msgspec.json.Decoder(ClientAttempt).decode
        async for line in self._process.stdout:
            attempt = decode(line)
            self._history.begin(attempt)
            self.answered += attempt.answered
            self.unanswered += not attempt.answered
            self.acknowledged += attempt.outcome is Outcome.OK and attempt.due is not None

    async def _watch(self, known: list[TargetState]) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            states = self._states()
            for state in states:
                if state not in known:
                    self._tell(state)
            known = states

    def _states(self) -> list[TargetState]:
        return [TargetState(name=t.name, url=t.url, up=t.up, phase=t.phase) for t in self._targets]

    def _tell(self, what: Start | TargetState) -> None:
        assert self._process.stdin
        self._process.stdin.write(_encode(what) + b"\n")


class _Forgetful(ClientHistory):
    """A history that keeps nothing: the parent process keeps the attempts."""

    def begin(self, attempt: ClientAttempt) -> ClientAttempt:
        """Return ``attempt`` without keeping it."""
        return attempt


async def serve() -> None:
    """Run the load's process: from the first line of standard input to its end."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    # The output buffer has no limit: a slow parent must not look like a slow service.
    answers, output = await loop.connect_write_pipe(_Output, sys.stdout)
    start = msgspec.json.decode(await lines.readline(), type=Start)
    targets = {target.name: target for target in start.targets}

    def tell(attempt: ClientAttempt) -> None:
        answers.write(_encode(attempt) + b"\n")

    async with Load(_Forgetful(), list(targets.values()), start.options, tell) as load:
        following = asyncio.create_task(_follow(lines, targets))
        watching = asyncio.create_task(_give_up_without(output, load))
        await asyncio.wait({following, *load.tasks}, return_when=asyncio.FIRST_COMPLETED)
        following.cancel()
    answers.close()
    await output.written.wait()
    watching.cancel()


async def _give_up_without(output: _Output, load: Load) -> None:
    """Cancel the load and its requests under way if the parent process has ended."""
    await output.written.wait()
    for task in load.tasks:
        task.cancel()


class _Output(asyncio.Protocol):
    """Sets ``written`` when everything is written and the pipe is closed."""

    def __init__(self) -> None:
        self.written = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Note that the pipe is closed."""
        self.written.set()


async def _follow(lines: asyncio.StreamReader, targets: dict[str, TargetState]) -> None:
    decode = msgspec.json.Decoder(TargetState).decode
    async for line in lines:
        state = decode(line)
        target = targets[state.name]
        target.up, target.phase, target.url = state.up, state.phase, state.url
