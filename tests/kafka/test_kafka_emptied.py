"""A broker that begins with empty data, and gives its producers' ids away a second time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings, run_kafka
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, Topic
from transport.errors import AppendUnknown, TransportUnavailable
from transport.kafka import KafkaTransport


@pytest.mark.timeout(300)
async def test_nothing_is_acknowledged_that_only_another_producer_sent(tmp_path: Path) -> None:
    """Both have one id, and the next batch of the first has the number of the other's last one."""
    async with run_kafka(tmp_path) as server:
        settings = fresh_settings(server.bootstrap)
        async with KafkaTransport(settings) as earlier:
            for text in "abc":
                assert await _is_appended(earlier, text)
            await server.kill()
            shutil.rmtree(server.data_dir)
            await server.start()
            async with KafkaTransport(settings) as later:
                for text in "ABCD":
                    assert await _is_appended(later, text)
                await eventually(lambda: _is_appended(earlier, "d"))
                assert contents(await later.read(Topic.MESSAGES, 0)) == [*"ABCD", "d"]


async def _is_appended(transport: KafkaTransport, text: str) -> bool:
    (outcome,) = await transport.publish([message(text, partition=0, of=transport)])
    assert isinstance(outcome, Appended | AppendUnknown | TransportUnavailable)
    return isinstance(outcome, Appended)
