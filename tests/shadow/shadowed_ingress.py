"""Ingress processes beside a shadow that is hurt: their settings, and what they say of it."""

from __future__ import annotations

from compose.local.valkey import ValkeyServer
from lab.bench.metrics_page import fetch
from lab.bench.processes import Running
from tests.shadow.log_pair import LogPair
from tests.support.services import RedisAddress

__all__ = ["all_is_told", "environment", "has_no_backlog", "shadow_environment"]


def environment(
    pair: LogPair, redis: ValkeyServer | RedisAddress, database_url: str
) -> dict[str, str]:
    """Return the settings of an ingress whose primary is ``pair``'s."""
    settings = pair.settings
    # Only the shadow is reached through its proxy, which runs in this process. (The short test's
    # Kafka can be reached in no other way, with a shadow and without.)
    near = pair.primary == "redis"
    return {
        "TRANSPORT": pair.primary,
        "REDIS_HOST": redis.host if near else settings.redis_host,
        "REDIS_PORT": str(redis.port if near else settings.redis_port),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC": settings.kafka_topic,
        "KAFKA_DLQ_TOPIC": settings.kafka_dlq_topic,
        "STREAM_PARTITIONS": "4",
        "DATABASE_URL": database_url,
        "ENABLE_STREAM_CONSUMERS": "false",
    }


def shadow_environment(pair: LogPair) -> dict[str, str]:
    """Return what such an ingress is told beside, to have a shadow."""
    return {
        "TRANSPORT_SHADOW": pair.shadow,
        # A mirror that holds a few hundred copies is full within the test.
        "TRANSPORT_SHADOW_QUEUE_RECORDS": "100",
        "TRANSPORT_SHADOW_TIMEOUT_MS": "1000",
    }


async def all_is_told(app: Running, posted: int) -> None:
    """Nothing is out of sight: what was posted was copied, waits, or is counted as missed."""
    page = await fetch(app.metrics_port)
    told = {
        word: page.labelled("shadow_publish_total", word)
        for word in ("appended", "remembered", "dropped_")
    }
    assert sum(told.values()) + page.total("shadow_queue_depth") >= posted
    assert told["appended"] > 0
    assert told["dropped_"] > 0, "the shadow was not hurt"


async def has_no_backlog(app: Running) -> bool:
    """Tell whether the shadow works and has everything that waited."""
    page = await fetch(app.metrics_port)
    return (
        page.labelled("shadow_publish_total", "appended") > 0
        and page.total("shadow_queue_depth") == 0
        and page.labelled("shadow_breaker_state", "closed") == 1
    )
