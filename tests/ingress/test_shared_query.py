"""Questions about message ids that share an answer."""

from __future__ import annotations

import asyncio

import pytest

from ingress.shared_query import SharedQuery, Waiting


class _Lookup:
    """Answers each id with the number of its question, as soon as it may."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.fault: BaseException | None = None
        self.shared = SharedQuery[int](self._ask, unanswered=lambda: -1)

    async def _ask(self, waiting: Waiting[int]) -> None:
        self.questions.append(list(waiting))
        number = len(self.questions)
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        for answer in waiting.values():
            answer.set_result(number)

    async def begin(self, *ids: str) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.shared.answer(it)) for it in ids]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


async def test_what_is_asked_meanwhile_is_the_next_question() -> None:
    lookup = _Lookup()
    first = await lookup.begin("a", "b", "a")
    later = await lookup.begin("c", "a")
    lookup.may_answer.set()
    assert await asyncio.gather(*first, *later) == [1, 1, 1, 2, 2]
    assert lookup.questions == [["a", "b"], ["c", "a"]]
    assert await lookup.shared.answer("d") == 3


async def test_who_gives_up_takes_no_answer_from_others() -> None:
    lookup = _Lookup()
    gone, same, other = await lookup.begin("a", "a", "b")
    gone.cancel()
    await asyncio.sleep(0)
    lookup.may_answer.set()
    assert await asyncio.gather(same, other) == [1, 1]


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), asyncio.CancelledError()])
async def test_nobody_waits_for_ever(fault: BaseException) -> None:
    lookup = _Lookup()
    lookup.fault = fault
    first, later = await lookup.begin("a"), await lookup.begin("b")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # of a task whose error nobody reads
    lookup.may_answer.set()
    assert await asyncio.gather(*first, *later) == [-1, -1]
    lookup.fault = None
    assert await lookup.shared.answer("c") == 2
