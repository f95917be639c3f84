"""The two topics: created as the settings say; existing ones that differ are refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import ListPartitionReassignmentsRequest_v0

from transport.contract import Topic
from transport.errors import ConfigurationError, TopicMissing, TransportError, TransportUnavailable
from transport.kafka.client.errors import translate
from transport.kafka.client.requests import OneVersion
from transport.settings import TransportSettings

__all__ = [
    "MAX_RECORD_BYTES",
    "TopicSpec",
    "check_replicas",
    "differences",
    "ensure_topics",
    "foresee_topics",
    "topic_specs",
]

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""The largest record of the messages topic, and so the largest batch."""
_DEAD_LETTER_ROOM = 256 * 1024  # for the headers of a dead letter

_VISIBLE_WITHIN = 10.0  # seconds until every partition of a created topic has a leader
_POLL = 0.05
_ANSWER_WITHIN_MS = 5000


class TopicSpec(NamedTuple):
    """The required configuration of a topic. ``settings`` names the variable of each figure."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    settings: Mapping[str, str]


def topic_specs(settings: TransportSettings, suffix: str = "") -> dict[Topic, TopicSpec]:
    """Return the specs of both topics; ``suffix`` is the suffix of the log's name."""
    replicas = settings.kafka_replication_factor
    in_sync = settings.kafka_min_insync_replicas or max(1, replicas - 1)
    names = {
        "partitions": "the log's name" if suffix else "STREAM_PARTITIONS",
        "replication factor": "KAFKA_REPLICATION_FACTOR",
        "min.insync.replicas": "KAFKA_MIN_INSYNC_REPLICAS",
        "retention.ms": "KAFKA_RETENTION_MS",
    }
    common = {
        # Compaction would drop all but the last message of a conversation.
        "cleanup.policy": "delete",
        # Ages and retention follow the broker's clock, not the producer's.
        "message.timestamp.type": "LogAppendTime",
        # The broker's default may be a size, beyond which it removes records, read or not.
        "retention.bytes": "-1",
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
    }
    messages = {
        **common,
        "max.message.bytes": str(MAX_RECORD_BYTES),
        "retention.ms": str(settings.kafka_retention_ms),
    }
    dead_letters = {
        **common,
        "max.message.bytes": str(MAX_RECORD_BYTES + _DEAD_LETTER_ROOM),
        "retention.ms": "-1",  # a dead letter waits for a person, however long
    }
    count = settings.stream_partitions
    topic, dlq = f"{settings.kafka_topic}{suffix}", f"{settings.kafka_dlq_topic}{suffix}"
    return {
        Topic.MESSAGES: TopicSpec(topic, count, replicas, messages, names),
        Topic.DEAD_LETTERS: TopicSpec(dlq, 1, replicas, dead_letters, names),
    }


async def ensure_topics(
    admin: AIOKafkaAdminClient,
    specs: Sequence[TopicSpec],
    created: list[str],
    counted: dict[str, int],
) -> None:
    """Create missing topics and check existing ones.

    Args:
        admin: The client to ask with.
        specs: The wanted topics.
        created: Gets the names of the created topics, also if an error follows.
        counted: See ``differences``.

    Raises:
        ConfigurationError: a topic differs from its spec; the text lists every difference.
        TransportUnavailable: Kafka can't do it now.
    """
    for spec in specs:
        if await _create(admin, spec):
            created.append(spec.name)  # noqa: PERF401 - a later error must not lose it
    found = await _once_visible(admin, specs, counted)
    if found:
        raise ConfigurationError(
            "Kafka's topics are not as configured; correct the variable, alter the topic, or "
            "delete one that is empty (it is then made as configured):\n  " + "\n  ".join(found)
        )


async def foresee_topics(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    """Have Kafka check whether it would create the missing topics; it creates none.

    Raises:
        ConfigurationError: it would refuse; the text says why.
        TransportUnavailable: Kafka can't say now.
    """
    for spec in specs:
        await _create(admin, spec, only_check=True)


async def differences(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], counted: dict[str, int]
) -> list[str]:
    """Return each difference between a topic and its spec.

    Args:
        admin: The client to ask with.
        specs: The wanted topics.
        counted: The number of partitions of each topic that was logged as having too many.

    Raises:
        TopicMissing: a topic does not exist.
        TransportError: Kafka can't say now, or forbids the question.
    """
    described = await _described(admin, specs)
    for spec in specs:
        _must_be_whole(spec, described.get(spec.name))
        _tell_others(spec, len(described[spec.name]), counted)
    configured = await _configurations(admin, specs)
    found = []
    for spec in specs:
        replicas = _replicas(described[spec.name], {})
        if replicas > spec.replicas:
            replicas = await _replicas_to_stay(admin, spec, described[spec.name])
        found += _differences(spec, described[spec.name], replicas, configured[spec.name])
    return found


async def check_replicas(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    """Return if each partition has a leader and enough in-sync replicas to take an append.

    Raises:
        TransportUnavailable: a partition has none, or too few, or is missing.
    """
    described = await _described(admin, specs)
    demanded = await _demanded(admin, specs)
    for spec in specs:
        found = len(described.get(spec.name, ()))
        if 0 < found < spec.partitions:
            raise TransportUnavailable(
                f"topic {spec.name} has {found} partitions, and {spec.partitions} are needed "
                f"({spec.settings['partitions']}): add the others"
            )
        needed = demanded[spec.name]
        for partition in described.get(spec.name, ()):
            if partition["leader"] < 0:
                raise TransportUnavailable(f"{spec.name}-{partition['partition']} has no leader")
            if len(partition["isr"]) < needed:
                raise TransportUnavailable(
                    f"{spec.name}-{partition['partition']} has {len(partition['isr'])} replicas in "
                    f"step, fewer than min.insync.replicas={needed}"
                )


async def _create(admin: AIOKafkaAdminClient, spec: TopicSpec, *, only_check: bool = False) -> bool:
    wanted = NewTopic(spec.name, spec.partitions, spec.replicas, topic_configs=dict(spec.config))
    # Ask first: where an operator creates the topics, our user needs no right to create them.
    if spec.name in await _described(admin, [spec]):
        return False
    try:
        response = await admin.create_topics([wanted], validate_only=only_check)
    except AttributeError as error:  # aiokafka raises it if there is no controller
        raise TransportUnavailable("Kafka has no controller now to make topics") from error
    for _name, code, *texts in response.topic_errors:
        refusal = for_code(code)
        if refusal is TopicAlreadyExistsError:
            return False
        if refusal is not NoError:
            raise _refused(refusal(f"{spec.name}: {' '.join(map(str, texts))}"))
    return True


def _refused(error: KafkaError) -> TransportError:
    """Return the error for a topic that was not created.

    While a cluster starts, its brokers are fenced until they have reported to the controller. KRaft
    then refuses to place the replicas with a text about fenced brokers, and the error passes. The
    same refusal without that text means wrong settings (``StripedReplicaPlacer`` has both texts).
    """
    if isinstance(error, InvalidReplicationFactorError) and "fenced" in str(error):
        return TransportUnavailable(f"Kafka's brokers are not ready yet ({error})")
    return translate(error, starting=True)


async def _once_visible(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], counted: dict[str, int]
) -> list[str]:
    """Return the differences of all topics, once the brokers that we ask know all of them."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _VISIBLE_WITHIN
    while True:
        try:
            return await differences(admin, specs, counted)
        except TransportUnavailable:  # also TopicMissing: brokers learn of new topics with a delay
            if loop.time() > deadline:
                raise
            await asyncio.sleep(_POLL)


async def _described(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]
) -> dict[str, list[dict[str, Any]]]:
    """Return the partitions of each topic that exists."""
    found = {}
    for topic in await admin.describe_topics([spec.name for spec in specs]):
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            continue
        if error is not NoError and not error.retriable:
            raise translate(error(topic["topic"]), starting=True)
        found[topic["topic"]] = topic["partitions"]
    return found


def _must_be_whole(spec: TopicSpec, partitions: Sequence[Mapping[str, Any]] | None) -> None:
    if not partitions:
        raise TopicMissing(f"topic {spec.name} is not there")
    if any(partition["leader"] < 0 for partition in partitions):
        raise TransportUnavailable(f"topic {spec.name} has partitions without a leader")


def _tell_others(spec: TopicSpec, found: int, counted: dict[str, int]) -> None:
    """Log, once for each number, that a topic has partitions beyond those of its spec.

    Kafka can't remove partitions, so this does not keep the service from starting.
    """
    if found > spec.partitions and counted.get(spec.name) != found:
        counted[spec.name] = found
        log.error(
            "A topic has more partitions than configured: the others are read, but not written "
            "and not in the lag",
            extra={"topic": spec.name, "partitions": found, "written": spec.partitions},
        )


def _replicas(partitions: Sequence[Mapping[str, Any]], leaving: Mapping[int, int]) -> int:
    """Return the least number of replicas that a partition has, or has once some have left."""
    return min(
        len(partition["replicas"]) - leaving.get(partition["partition"], 0)
        for partition in partitions
    )


async def _replicas_to_stay(
    admin: AIOKafkaAdminClient, spec: TopicSpec, partitions: Sequence[Mapping[str, Any]]
) -> int:
    """Return what ``_replicas`` will be once no partition is being moved to other brokers.

    A partition that is being moved has its old replicas and its new ones, for hours if that is
    throttled. Users without the right to describe the cluster are not told of it.
    """
    numbers = [partition["partition"] for partition in partitions]
    topics: list[tuple[Any, ...]] = [(spec.name, numbers, {})]
    request = OneVersion(ListPartitionReassignmentsRequest_v0, _ANSWER_WITHIN_MS, topics, {})
    alive = partitions[0]["leader"]  # any broker can answer
    answer: Any = await admin._send_request(request, alive)  # noqa: SLF001 - no public way
    leaving = {
        number: len(removing)
        for _name, moved, _tags in answer.topics
        for number, _all, _adding, removing, _more in moved
    }
    return _replicas(partitions, leaving)


def _differences(
    spec: TopicSpec,
    partitions: Sequence[Mapping[str, Any]],
    replicas: int,
    config: Mapping[str, str],
) -> list[str]:
    actual = {
        "partitions": str(min(len(partitions), spec.partitions)),
        "replication factor": str(replicas),
        **config,
    }
    wanted = {
        "partitions": str(spec.partitions),
        "replication factor": str(spec.replicas),
        **spec.config,
    }
    return [
        f"topic {spec.name}: {name} is {actual.get(name)}, wanted {value}"
        + (f" ({spec.settings[name]})" if name in spec.settings else "")
        for name, value in wanted.items()
        if actual.get(name) != value
    ]


async def _demanded(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> dict[str, int]:
    """Return the ``min.insync.replicas`` of each topic, which somebody may have altered."""
    try:
        found = await _configurations(admin, specs)
    except ConfigurationError:  # the right to ask was taken from us; appends may be allowed
        found = {}
    name = "min.insync.replicas"
    return {
        spec.name: int(found.get(spec.name, spec.config).get(name, spec.config[name]))
        for spec in specs
    }


async def _configurations(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]
) -> dict[str, Mapping[str, str]]:
    """Return, by the topic's name, the values that its spec has a value for."""
    wanted = [
        ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=dict.fromkeys(spec.config, ""))
        for spec in specs
    ]
    (response,) = await admin.describe_configs(wanted)
    found: dict[str, Mapping[str, str]] = {}
    for code, message, _kind, name, entries in response.resources:
        error = for_code(code)
        if error is not NoError:
            raise translate(error(f"{name}: {message}"), starting=True)
        found[name] = {entry[0]: entry[1] for entry in entries}
    return found
