"""Generates ``docs/access.md``: every route, and the keys that may call it.

``python -m docs.site.access > docs/access.md`` writes it. Tests compare the page with the code, and
with the answers of a service.
"""

from __future__ import annotations

import sys

from ingress.openapi.access import RouteAccess, route_access
from ingress.web.auth import Scope
from tests.support.api_documents import application

__all__ = ["page"]

_HEAD = """\
# Which key may call what

Every route of the service, and the API keys that it answers. `yes` with one scope means that a
key needs no other. Without a key, a route that needs one answers 401; a key that it does not
answer gets 403. Paths that are not in the table are answered 404, with any key and without one.
`HEAD` is answered as `GET` is; `OPTIONS` needs no key and names the methods of a path.

* **With a prefix**: the route answers keys that are limited to senders or conversations and have
  the scope, about messages that they [may read or
  acknowledge](../SECURITY.md#who-may-call-what). Ids of other messages are answered 404.
* **`admin` without `read`** sees no content of a message, no id of one and no list of them. The
  routes for `read or admin` leave out for it whatever could name a message: ids, conversations,
  errors and causes of dead letters, samples of parity, evidence of gates. Of a dead letter it
  sees the number, the reason, the place in the log, the attempts and the state: enough to
  redrive or discard it. An operator who reads errors needs a key with both scopes.

| method | path | scope | no key | `produce` | `read` | `admin` | with a prefix |
|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """Return ``docs/access.md``."""
    return _HEAD + "".join(_row(access) for access in route_access(application(keys=True).api))


def _row(access: RouteAccess) -> str:
    answers = [
        _answers(access, set()),
        *(_answers(access, {scope}) for scope in Scope),
        _answers(access, {Scope.PRODUCE, Scope.READ}, limited=True),
    ]
    cells = [access.method, f"`{access.path}`", access.scopes or "-", *answers]
    return f"| {' | '.join(cells)} |\n"


def _answers(access: RouteAccess, scopes: set[Scope], *, limited: bool = False) -> str:
    met = [
        not scopes.isdisjoint(need.scopes) and (need.limited or not limited)
        for need in access.needs
    ]
    return "yes" if all(met) else "no"


if __name__ == "__main__":
    sys.stdout.write(page())
