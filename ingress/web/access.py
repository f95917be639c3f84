"""Which keys may call a route. Each route declares one or more of these, as dependencies.

The check, the OpenAPI documents and ``docs/access.md`` are all made from this declaration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.browser import request_key
from ingress.web.headers import Headers

__all__ = [
    "ADMIN",
    "NEEDS_READ",
    "OPERATE",
    "PRODUCE",
    "READ",
    "READ_ALL",
    "Access",
    "AdminKey",
    "OperatorKey",
    "ProduceKey",
    "ReadKey",
    "shows_messages",
]


@dataclass(frozen=True)
class Access:
    """A condition that a request's key meets. ``Depends(access.key)`` makes a route require it."""

    scopes: tuple[Scope, ...]
    """The key needs one of these."""
    limited: bool = False
    """Whether a key with a prefix is allowed. The route then compares the prefix with the senders
    and conversations of the request and of its answer."""

    def key_of(self, auth: Authenticator, method: str, headers: Headers) -> ApiKey | None:
        """Return the request's key, or ``None`` if no keys are needed.

        Raises:
            Problem: The request has no key that meets this condition (401, 403).
        """
        return request_key(auth, method, headers, *self.scopes, limited=self.limited)

    async def key(self, request: Request) -> ApiKey | None:
        """Return as ``key_of`` does. A dependency of routes."""
        auth = cast("Authenticator", request.app.state.auth)
        return self.key_of(auth, request.method, dict(request.scope["headers"]))


PRODUCE = Access((Scope.PRODUCE,), limited=True)
READ = Access((Scope.READ,), limited=True)
"""For routes that show messages that the key may read."""
READ_ALL = Access((Scope.READ,))
"""For routes that may show any message."""
OPERATE = Access((Scope.READ, Scope.ADMIN))
"""For routes that show how the service works. Whatever could name a message is shown only if
``shows_messages``."""
ADMIN = Access((Scope.ADMIN,))

NEEDS_READ = "Shown to keys with the scope `read` only."
"""The text that replaces what a key without the scope ``read`` is not shown."""

ProduceKey = Annotated[ApiKey | None, Depends(PRODUCE.key)]
ReadKey = Annotated[ApiKey | None, Depends(READ.key)]
OperatorKey = Annotated[ApiKey | None, Depends(OPERATE.key)]
AdminKey = Annotated[ApiKey | None, Depends(ADMIN.key)]


def shows_messages(key: ApiKey | None) -> bool:
    """Return whether an answer for ``key`` may name messages; the scope ``admin`` is not enough."""
    return key is None or Scope.READ in key.scopes
