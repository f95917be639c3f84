"""An identity provider on loopback: a token endpoint (RFC 6749, 4.4) and its public key (RFC 7517).

Tokens are JWTs that openssl signs, and a real broker verifies them.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.support.requirements import program

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "TokenIssuer", "run_token_issuer"]

CLIENT_ID, CLIENT_SECRET = "crossfade", "s3cret&more"
_KEY_ID = "one"


class TokenIssuer:
    """Issues tokens to one client. Tests change its attributes to make it misbehave."""

    def __init__(self, folder: Path) -> None:
        self._openssl = program("openssl", package="openssl")
        self._key = folder / "issuer.key"
        self._run("genrsa", "-out", str(self._key), "2048")
        self.port = 0
        self.lifetime = 300.0
        self.audience = "kafka"
        self.answers: list[tuple[int, Any]] = []
        """Status and JSON of the next answers, sent instead of a token."""
        self.asked: list[dict[str, list[str]]] = []
        """The forms that were posted."""

    @property
    def token_endpoint(self) -> str:
        """The URL at which a client gets tokens."""
        return f"http://127.0.0.1:{self.port}/token"

    @property
    def keys(self) -> str:
        """The URL at which a broker gets the public key."""
        return f"http://127.0.0.1:{self.port}/keys"

    def sign(self, **changes: Any) -> str:
        """Return a token; ``changes`` replaces claims."""
        now = time.time()
        claims = {
            "iss": "issuer", "aud": self.audience, "sub": CLIENT_ID,
            "iat": now, "exp": now + self.lifetime,
        }  # fmt: skip
        head = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims | changes))
        signature = self._run("dgst", "-sha256", "-sign", str(self._key), input_=signed.encode())
        return f"{signed}.{_base64(signature)}"

    def answer(self, form: dict[str, list[str]], authorization: str) -> tuple[int, Any]:
        """Return status and JSON of the token endpoint."""
        self.asked.append(form)
        if self.answers:
            return self.answers.pop(0)
        # RFC 6749, 2.3.1 requires both parts to be form-encoded; most servers accept plain text.
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_client"}
        found = {"access_token": self.sign(), "token_type": "Bearer", "expires_in": self.lifetime}
        return HTTPStatus.OK, found

    def public_key(self) -> dict[str, Any]:
        """Return the key set."""
        modulus = self._run("rsa", "-in", str(self._key), "-noout", "-modulus").decode()
        number = bytes.fromhex(modulus.strip().removeprefix("Modulus="))
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KEY_ID, "e": "AQAB"}
        return {"keys": [{**key, "n": _base64(number)}]}

    def _run(self, *arguments: str, input_: bytes | None = None) -> bytes:
        return subprocess.run(
            [self._openssl, *arguments], input=input_, check=True, capture_output=True
        ).stdout


@contextmanager
def run_token_issuer(folder: Path) -> Iterator[TokenIssuer]:
    """Run an issuer whose key is in ``folder``."""
    issuer = TokenIssuer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            authorization = self.headers.get("Authorization", "")
            self._send(*issuer.answer(parse_qs(body.decode()), authorization))

        def do_GET(self) -> None:
            self._send(HTTPStatus.OK, issuer.public_key())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _send(self, status: int, body: Any) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
