"""Amazon MSK's IAM access control, without AWS: a broker that verifies what the signer signs.

The signer is the one of ``crossfade[msk]``. ``MskIam.java`` is the broker's side: it computes the
signature of each token anew.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from compose.local.kafka_jars import find_java, kafka_jars
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import fresh_settings, require_kafka, run_kafka
from tests.support.kafka_security import Security
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.tokens.provider import token_provider
from transport.settings import TransportSettings

_REGION = "eu-west-1"
_KEY, _SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
_SESSION_MS = 1500  # in which a client has to come back
_LISTENER = "listener.name.client.oauthbearer"
_ROLE = """
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult><Credentials>
    <AccessKeyId>{0}</AccessKeyId><SecretAccessKey>{1}</SecretAccessKey>
    <SessionToken>{2}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>
"""
_ERROR = """
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>{0}</Code><Message>said so</Message></Error>
</ErrorResponse>
"""


@pytest_asyncio.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    await require_kafka()
    folder = tmp_path_factory.mktemp("msk")
    source = Path(__file__).with_name("MskIam.java")
    await asyncio.to_thread(
        subprocess.run,
        [
            *(find_java().tool("javac"), "-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC"),
            *("-cp", f"{kafka_jars()}/*", "-d", folder, source),
        ],
        check=True,
    )
    async with run_kafka(
        folder,
        security=Security("SASL_PLAINTEXT", "OAUTHBEARER"),
        config={
            f"{_LISTENER}.sasl.server.callback.handler.class": "MskIam",
            f"{_LISTENER}.connections.max.reauth.ms": str(_SESSION_MS),
        },
        jvm=(f"-Dmsk.credentials={folder}/credentials", f"-Dmsk.region={_REGION}"),
        classes=(folder,),
    ) as server:
        yield server


@pytest.fixture
def aws(broker: KafkaServer) -> Callable[..., None]:
    """What AWS knows: call it with an access key, its secret, and the token of its session."""

    def know(*credentials: str) -> None:
        (broker.data_dir.parent / "credentials").write_text(" ".join(credentials))

    know(_KEY, _SECRET)
    return know


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A process with no AWS credentials but those of the environment."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    return monkeypatch


def _settings(bootstrap: str = "127.0.0.1:9", **changes: Any) -> TransportSettings:
    given = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_provider": "aws-msk-iam",
        "kafka_aws_region": _REGION,
    }
    return fresh_settings(bootstrap, **given | changes)


async def _round_trip(broker: KafkaServer) -> None:
    async with KafkaTransport(_settings(broker.bootstrap)) as log:
        (outcome,) = await log.publish(messages(["a"], partition=0, of=log))
        assert isinstance(outcome, Appended)
        records = await first_records(log, 1)
        assert contents(records) == ["a"]
        await log.publish_positions(Topic.MESSAGES, {0: records[-1].offset}, group=WORKER_GROUP)


async def test_what_is_signed_with_known_credentials_lets_us_in(
    broker: KafkaServer, aws: Callable[..., None]
) -> None:
    await _round_trip(broker)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hunter2", "signature"),
        ("AWS_ACCESS_KEY_ID", "AKIDANOTHER", "access key"),
        ("AWS_SESSION_TOKEN", "of-another-session", "session token"),
    ],
)
async def test_what_is_signed_with_others_is_refused_with_the_reason(
    broker: KafkaServer,
    aws: Callable[..., None],
    environment: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"Access denied: {said}") as refused:
        async with KafkaTransport(_settings(broker.bootstrap)):
            pass
    assert "hunter2" not in str(refused.value)


async def test_a_token_for_another_region_is_refused(
    broker: KafkaServer, aws: Callable[..., None]
) -> None:
    with pytest.raises(ConfigurationError, match="Access denied: host"):
        async with KafkaTransport(_settings(broker.bootstrap, kafka_aws_region="us-east-1")):
            pass


async def test_keys_that_are_rotated_keep_a_running_service_out_for_seconds_only(
    broker: KafkaServer, aws: Callable[..., None], environment: pytest.MonkeyPatch
) -> None:
    """The token at hand would be used for 12 minutes; the broker ends each session (KIP-368)."""
    async with KafkaTransport(_settings(broker.bootstrap)) as log:

        async def appends() -> bool:
            (outcome,) = await log.publish(messages(["a"], partition=0, of=log))
            return isinstance(outcome, Appended)

        assert await appends()
        aws("AKIDNEXT", "another-secret")
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIDNEXT")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")

        async def refused() -> bool:
            return not await appends()

        await eventually(refused)
        await eventually(appends)


async def test_no_credentials_at_all_are_told_with_the_remedy(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ConfigurationError, match=r"no AWS credentials were found.*a profile"):
        await token_provider(_settings()).token()


class _Sts:
    """AWS's token service on loopback; ``answer`` is its status and its text."""

    def __init__(self) -> None:
        self.answer = (200, "")
        self.asked: list[dict[str, list[str]]] = []


@pytest.fixture
def sts(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Sts]:
    """The web identity of a service account, as EKS gives it to a pod."""
    service = _Sts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            service.asked.append(parse_qs(body.decode()))
            status, text = service.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    (tmp_path / "web-identity").write_text("a.b.c")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/crossfade")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "web-identity"))
    environment.setenv("AWS_MAX_ATTEMPTS", "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        environment.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


async def test_a_pods_web_identity_lets_us_in_with_temporary_credentials(
    broker: KafkaServer, aws: Callable[..., None], sts: _Sts
) -> None:
    temporary = ("ASIATEMPORARY", "for-an-hour", "session+token/with=signs")
    aws(*temporary)
    sts.answer = (200, _ROLE.format(*temporary))
    await _round_trip(broker)
    assert len(sts.asked) == 1  # one token for all connections
    assert sts.asked[0]["WebIdentityToken"] == ["a.b.c"]


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "AccessDenied", ConfigurationError, "AccessDenied.*the role and its trust"),
        (400, "Throttling", TransportUnavailable, "Throttling"),
        (503, "ServiceUnavailable", TransportUnavailable, "ServiceUnavailable"),
    ],
)
async def test_what_awss_token_service_refuses_is_told(
    sts: _Sts, status: int, code: str, kind: type[Exception], said: str
) -> None:
    sts.answer = (status, _ERROR.format(code))
    with pytest.raises(kind, match=said):
        await token_provider(_settings()).token()


async def test_a_token_service_that_is_out_is_an_outage(
    sts: _Sts, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(TransportUnavailable, match="no AWS credentials now"):
        await token_provider(_settings()).token()
