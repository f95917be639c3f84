"""``crossfade dlq redrive`` where the command's settings are not those of the processes."""

from __future__ import annotations

import pytest

from persistence.dead_letters.rows import insert
from tests.persistence.loglib import append
from tests.persistence.samples import message, raw_record, record
from tests.support.crossfade import Crossfade
from tests.support.phases import CHOICES
from transport.clock import now
from transport.contract import DeadLetter, Reason
from transport.message.dead_letters import dead_letter_headers
from transport.redis import RedisTransport


@pytest.fixture
async def redrive(redis_settings, database_pool, database_url, tmp_path):
    """Run ``crossfade dlq redrive`` with ``TRANSPORT=redis``, where one letter is pending."""
    refused = record(message("c1"))
    headers = dead_letter_headers(DeadLetter(refused, Reason.REJECTED, "e", 3, now()))
    letter = raw_record(refused.body, key=refused.key, headers=headers)
    async with database_pool.acquire() as connection:
        await insert(connection, "redis", [letter])
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_HOST": redis_settings.redis_host,
        "REDIS_PORT": str(redis_settings.redis_port),
        "REDIS_STREAM_DB": str(redis_settings.redis_stream_db),
        "TRANSPORT": "redis",
    }

    async def run() -> tuple[int, str]:
        command = await Crossfade.fork("dlq", "redrive", "--all", cwd=tmp_path, **settings)
        return await command.ends(), command.text

    return run


async def test_nothing_is_redriven_into_a_log_that_no_process_writes(
    redrive, redis_settings, process, state_machine, database_pool
):
    """The settings are those of the first phase still: perhaps nobody reads the old log."""
    async with RedisTransport(redis_settings) as redis:
        await append(redis, message("of an earlier phase"))
        await state_machine.adopt(CHOICES[5], "first")
        await process("a", 5)
        status, text = await redrive()
        assert status == 1, text
        assert "TRANSPORT=redis" in text
        assert "Set TRANSPORT=kafka" in text
        assert await _letters(database_pool) == ["pending"]
        await process("old", 0)
        status, text = await redrive()
        assert status == 0, text
        assert await _letters(database_pool) == ["redriven"]


async def _letters(pool) -> list[str]:
    return [row["state"] for row in await pool.fetch("SELECT state FROM dead_letters")]
