"""``Content-Digest`` and ``Repr-Digest`` of bodies in JSON."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.ingress.conftest import JSON, Service, message
from tests.ingress.test_forms import sha


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("path", ["/api/messages", "/api/messages:batch"])
async def test_a_json_body_is_held_against_its_digest(
    service: Service, path: str, name: str
) -> None:
    one = message()
    body = json.dumps([one] if path.endswith("batch") else one).encode()
    packed = gzip.compress(body)
    coded = {"Content-Encoding": "gzip"}
    for content, headers, digest, status in (
        (body, {}, sha(b"another"), 400),
        (body, {}, sha(b"another"), 400),  # its head is not remembered as one without a digest
        (packed, coded, sha(body), 400),  # of the bytes as they came
        (body, {}, "sha-256=:AAA:", 400),
        (body, {}, "sha-256=nonsense", 400),
        (body, {}, f"md5=:AAA=:, {sha(body)[:-1]}", 400),  # it lacks its last colon
        (body, {}, sha(body), None),
        (packed, coded, sha(packed), None),
        (body, {}, "md5=:AAA=:", None),
    ):
        answer = await service.client.post(
            path, content=content, headers={**JSON, **headers, name: digest}
        )
        if status is None:
            assert answer.status_code in {200, 202, 207}
        else:
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/digest-mismatch")
    assert await service.records() == 1


async def test_a_long_body_has_its_digest_computed_aside(service: Service) -> None:
    body = json.dumps([message(n, content="x" * 1000) for n in range(300)]).encode()
    for digest, accepted in ((sha(b"another"), False), (sha(body), True)):
        headers = {**JSON, "Content-Digest": digest}
        answer = await service.client.post("/api/messages:batch", content=body, headers=headers)
        assert answer.is_success == accepted
