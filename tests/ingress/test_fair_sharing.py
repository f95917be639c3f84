"""Room and turns that clients share: no one of them takes all."""

from __future__ import annotations

import asyncio

from ingress.accept.fair_sharing import FairRoom, FairSlots


def filled(room: FairRoom, client: str | None) -> int:
    """Take as much as there is for a client; return how much that was."""
    taken = 0
    while room.has_some_for(client):
        room.take(client, 1)
        taken += 1
    return taken


def test_a_client_gets_half_and_there_is_always_some_for_one_more() -> None:
    room = FairRoom(16)
    assert [filled(room, name) for name in "abc"] == [8, 4, 2]
    for _ in range(8):
        room.give_back("a", 1)
    assert (room.held, room.has_some_for("a")) == (6, True)


def test_clients_that_can_not_be_told_apart_may_take_all() -> None:
    assert filled(FairRoom(16), None) == 16


async def test_slots_go_round_by_client() -> None:
    slots, order = FairSlots(1), list[str]()

    async def work(client: str) -> None:
        async with slots.slot(client):
            order.append(client)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for client in "aaaaaabbc":
            tasks.create_task(work(client))
    assert "".join(order) == "aabcabaaa"


async def test_who_gave_up_costs_its_client_no_turn() -> None:
    slots, order = FairSlots(1), list[str]()

    async def work(client: str) -> None:
        async with slots.slot(client):
            order.append(client)

    async with slots.slot("b"):
        gone = [asyncio.create_task(work("a")) for _ in range(3)]
        live = [asyncio.create_task(work(client)) for client in "abb"]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
    await asyncio.wait(live)
    assert "".join(order) == "abb"


async def test_who_gives_up_keeps_no_slot() -> None:
    slots = FairSlots(1)

    async def hold() -> None:
        async with slots.slot("a"):
            raise AssertionError("it gave up")

    async with slots.slot("a"):
        waiting = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # before its turn
        await asyncio.wait([waiting[0]])
    waiting[1].cancel()  # it has its turn now, and has not run yet
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
    async with asyncio.timeout(5), slots.slot("b"):
        pass
