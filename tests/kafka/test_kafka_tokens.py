"""SASL/OAUTHBEARER on a broker that verifies signatures, and the providers of tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_security import Security
from tests.support.token_issuer import CLIENT_ID, CLIENT_SECRET, TokenIssuer, run_token_issuer
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.tokens.provider import token_provider
from transport.kafka.tokens.reused import ReusedToken
from transport.settings import TransportSettings
from transport.tokens import Token

_VALIDATOR = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
_LISTENER = "listener.name.client.oauthbearer"
_NO_NEW_TOKEN = "No new Kafka token: the one in use is kept until its end; will retry"
_NEW_TOKEN = "There are new Kafka tokens again"
_SESSION_MS = 1500  # in which a client has to come back with a new token


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenIssuer]:
    with run_token_issuer(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


@pytest.fixture(autouse=True)
def _well_behaved(issuer: TokenIssuer) -> None:
    issuer.lifetime, issuer.audience = 300.0, "kafka"
    issuer.answers.clear()
    issuer.asked.clear()


@pytest_asyncio.fixture(scope="module")
async def broker(
    issuer: TokenIssuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[KafkaServer]:
    config = {
        f"{_LISTENER}.sasl.server.callback.handler.class": _VALIDATOR,
        f"{_LISTENER}.connections.max.reauth.ms": str(_SESSION_MS),
        "sasl.oauthbearer.jwks.endpoint.url": issuer.keys,
        "sasl.oauthbearer.expected.audience": "kafka",
        "sasl.oauthbearer.expected.issuer": "issuer",
    }
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.keys}"
    async with run_kafka(
        tmp_path_factory.mktemp("broker"),
        security=Security("SASL_PLAINTEXT", "OAUTHBEARER"),
        config=config,
        jvm=(allowed,),
    ) as server:
        yield server


def _oidc(issuer: TokenIssuer, bootstrap: str = "127.0.0.1:9", **changes: Any) -> TransportSettings:
    given = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_provider": "oidc",
        "kafka_oauth_token_url": issuer.token_endpoint,
        "kafka_oauth_client_id": CLIENT_ID,
        "kafka_oauth_client_secret": CLIENT_SECRET,
    }
    return fresh_settings(bootstrap, **given | changes)


async def test_a_token_lets_us_in_and_sessions_that_end_lose_nothing(
    broker: KafkaServer, issuer: TokenIssuer
) -> None:
    """The broker ends each session after a moment (KIP-368), for as long as all of this takes."""
    settings = _oidc(issuer, broker.bootstrap, kafka_oauth_scope="log")
    appended: list[str] = []
    async with KafkaTransport(settings) as log:
        begun = time.monotonic()
        while time.monotonic() < begun + 3 * _SESSION_MS / 1000:
            text = f"message {len(appended)}"
            (outcome,) = await log.publish(messages([text], partition=0, of=log))
            assert isinstance(outcome, Appended)
            appended.append(text)
            await asyncio.sleep(0.01)
        records = await first_records(log, len(appended))
        assert contents(records) == appended
        await log.publish_positions(Topic.MESSAGES, {0: records[-1].offset}, group=WORKER_GROUP)
    assert len(issuer.asked) == 1  # one token for all connections
    assert issuer.asked[0] == {"grant_type": ["client_credentials"], "scope": ["log"]}


async def test_a_token_that_the_broker_refuses_is_told_with_its_reason(
    broker: KafkaServer, issuer: TokenIssuer
) -> None:
    issuer.audience = "another"
    with pytest.raises(ConfigurationError, match=r"audience.*invalid_token"):
        async with KafkaTransport(_oidc(issuer, broker.bootstrap)):
            pass


async def test_a_secret_that_the_issuer_refuses_is_named_and_not_printed(
    broker: KafkaServer, issuer: TokenIssuer
) -> None:
    settings = _oidc(issuer, broker.bootstrap, kafka_oauth_client_secret="hunter2")
    with pytest.raises(ConfigurationError, match="_CLIENT_SECRET") as refused:
        async with KafkaTransport(settings):
            pass
    assert "invalid_client" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_an_issuer_that_is_out_is_an_outage(broker: KafkaServer, issuer: TokenIssuer) -> None:
    issuer.answers += [(503, {"error": "temporarily_unavailable"})] * 20
    with pytest.raises(TransportUnavailable, match="503"):
        async with KafkaTransport(_oidc(issuer, broker.bootstrap)):
            pass


async def test_a_token_from_a_file_lets_us_in(
    broker: KafkaServer, issuer: TokenIssuer, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{issuer.sign()}\n")
    settings = _oidc(
        issuer,
        broker.bootstrap,
        kafka_oauth_provider="file",
        kafka_oauth_token_file=str(path),
    )
    async with KafkaTransport(settings) as log:
        (outcome,) = await log.publish(messages(["a"], partition=0, of=log))
        assert isinstance(outcome, Appended)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((400, {"error": "invalid_scope"}), ConfigurationError, "invalid_scope.*_SCOPE"),
        ((404, "no such page"), ConfigurationError, "_TOKEN_URL"),
        ((200, {"token": "x"}), ConfigurationError, "without an access_token"),
        ((200, ["x"]), ConfigurationError, "without an access_token"),
        ((429, {}), TransportUnavailable, "429"),
        ((500, {}), TransportUnavailable, "500"),
    ],
)
async def test_what_an_issuer_answers_is_told(
    issuer: TokenIssuer, answer: tuple[int, Any], kind: type[Exception], said: str
) -> None:
    issuer.answers.append(answer)
    with pytest.raises(kind, match=said):
        await token_provider(_oidc(issuer)).token()


async def test_a_life_that_the_issuer_does_not_tell_is_the_tokens_own(issuer: TokenIssuer) -> None:
    issuer.answers.append((200, {"access_token": issuer.sign(exp=time.time() + 1000)}))
    token = await token_provider(_oidc(issuer)).token()
    assert 900 < token.seconds <= 1000


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "can't be read"),
        ("", "is empty"),
        ("ended", "ended .* ago"),
        ("\xff", "can't be read"),
    ],
)
async def test_a_token_file_that_is_no_good_is_told(
    issuer: TokenIssuer, tmp_path: Path, written: str | None, said: str
) -> None:
    path = tmp_path / "token"
    if written == "ended":
        written = issuer.sign(exp=time.time() - 100)
    if written is not None:
        path.write_bytes(written.encode("latin-1"))
    changes = {
        "kafka_oauth_provider": "file",
        "kafka_oauth_token_file": str(path),
    }
    provider = token_provider(_oidc(issuer, **changes))
    with pytest.raises(ConfigurationError, match=said):
        await provider.token()


@pytest.mark.parametrize("provider", ["oidc", "file", "aws-msk-iam", "another"])
def test_a_provider_says_which_setting_it_lacks(provider: str) -> None:
    settings = fresh_settings(
        "127.0.0.1:9",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_oauth_provider=provider,
    )
    with pytest.raises(ConfigurationError, match=r"KAFKA_(OAUTH|AWS)_\w+"):
        KafkaTransport(settings)


class _Counting:
    """A provider whose tokens are numbered; ``wrong`` is raised in place of one."""

    def __init__(self, seconds: float, wrong: Exception | None = None) -> None:
        self.count, self.seconds, self.wrong = 0, seconds, wrong

    async def token(self) -> Token:
        self.count += 1
        await asyncio.sleep(0)
        if self.wrong is not None:
            raise self.wrong
        return Token(f"token {self.count}", self.seconds)


async def test_connections_that_begin_together_share_a_token() -> None:
    provider = _Counting(60)
    reused = ReusedToken(provider)
    assert set(await asyncio.gather(*(reused.token() for _ in range(20)))) == {"token 1"}


async def test_a_token_that_a_broker_refuses_is_replaced_before_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not at once each time: a broker that refuses every token is no reason to ask on and on."""
    reused = ReusedToken(_Counting(600))
    assert await reused.token() == "token 1"
    reused.refused()
    assert await reused.token() == "token 1"
    monkeypatch.setattr("transport.kafka.tokens.reused._APART", 0.0)
    reused.refused()
    assert [await reused.token() for _ in range(2)] == ["token 2", "token 2"]


async def test_a_token_is_replaced_before_it_ends() -> None:
    reused = ReusedToken(_Counting(0))
    assert [await reused.token() for _ in range(2)] == ["token 1", "token 2"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ConfigurationError("a"), AuthenticationFailedError),
        (TransportUnavailable("a"), KafkaConnectionError),
        (AttributeError("a"), KafkaConnectionError),
    ],
)
async def test_errors_of_a_provider_are_aiokafkas(wrong: Exception, told: type[Exception]) -> None:
    with pytest.raises(told):
        await ReusedToken(_Counting(60, wrong)).token()


class _Slow:
    """A provider that is slower than a caller waits."""

    def __init__(self) -> None:
        self.asked, self.answers = 0, asyncio.Event()

    async def token(self) -> Token:
        self.asked += 1
        await self.answers.wait()
        return Token(f"token {self.asked}", 60.0)


async def test_a_token_that_comes_late_is_there_for_the_next_connection() -> None:
    """Each connection that gave up ended its question, and the next one asked anew."""
    provider = _Slow()
    reused = ReusedToken(provider)
    impatient = asyncio.create_task(reused.token())
    await eventually(lambda: provider.asked == 1)
    impatient.cancel()
    await asyncio.wait([impatient])
    provider.answers.set()
    assert await reused.token() == "token 1"


async def test_a_token_is_used_for_as_long_as_no_new_one_can_be_had(
    broker: KafkaServer,
    issuer: TokenIssuer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The issuer is asked for a new one well before the end, and is out just then."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("transport.kafka.tokens.reused._USED", 0.0)
    async with KafkaTransport(_oidc(issuer, broker.bootstrap)) as log:
        issuer.answers += [(503, {"error": "temporarily_unavailable"})] * 1000
        asked = len(issuer.asked)

        async def is_told(line: str) -> bool:
            (outcome,) = await log.publish(messages(["text"], partition=0, of=log))
            assert isinstance(outcome, Appended)
            return len(issuer.asked) > asked + 2 and line in caplog.messages

        await eventually(lambda: is_told(_NO_NEW_TOKEN))
        issuer.answers.clear()
        await eventually(lambda: is_told(_NEW_TOKEN))
        assert caplog.messages.count(_NO_NEW_TOKEN) == 1
