"""The HTTP application: the hot path in front, FastAPI behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import FastAPI

from ingress.accept.bodies import Disconnected, replayed
from ingress.accept.context import AcceptContext
from ingress.accept.hot_path import MessageHotPath
from ingress.accept.post_batch import BATCH, PostBatch
from ingress.accept.post_form import PostForm
from ingress.accept.post_message import MESSAGES, PostMessage
from ingress.console.sampler import Sampler
from ingress.console.tail import Tail
from ingress.http1.bounds import Bounds
from ingress.http1.listener import Listener
from ingress.metrics import IngressMetrics
from ingress.openapi import Documents
from ingress.readiness import ReadinessChecks
from ingress.routes import error_handlers
from ingress.routes.traced import traced
from ingress.schema.json_faults import check_json
from ingress.schema.problems import Problem
from ingress.settings import IngressSettings
from ingress.web.asgi import AsgiApp, Receive, Scope, Send, respond_problem
from ingress.web.browser import SAFE
from ingress.web.headers import by_name, is_json
from ingress.web.methods import head, other_method
from otel.metrics import Metrics

__all__ = ["Ingress"]

_ORDINARY_BODY = 64 * 1024
"""The largest body of the routes behind FastAPI, in bytes: a redrive names 1,000 ids in 20 KiB.

Pydantic validates a whole body at once, at up to a microsecond a byte, and other requests wait.
"""
_ORDINARY_LIMIT = "INGRESS_MAX_BODY_BYTES, and 64 KiB on this route"
_FOR_PROBES = {"/healthz", "/readyz"}
"""Paths that answer under any ``Host``: they show no message, and a load balancer may send any."""
_TRACED = "/api/"  # health and documents are not traced: they would be most of the traces


class Ingress:
    """The ASGI application. Its lifespan ends when every accepted message has its outcome.

    Args:
        api: The FastAPI application, with all routes outside the hot path.
        documents: The OpenAPI documents of all routes.
        accept: The parts that every message passes on its way in.
        readiness: Answers ``/readyz``.
        settings: Limits of requests and connections.
        metrics: Counts the connections that the service closes.
        followed: Event streams that consoles follow; ``drain`` ends them.
    """

    def __init__(
        self,
        api: FastAPI,
        documents: Documents,
        accept: AcceptContext,
        readiness: ReadinessChecks,
        *,
        settings: IngressSettings,
        metrics: Metrics,
        followed: Sequence[Sampler | Tail],
    ) -> None:
        self.api = api
        self.documents = documents
        self.accept = accept
        post = PostMessage(accept, settings.ingress_max_body_bytes)
        batch = PostBatch(accept, settings.ingress_max_batch_bytes)
        bounds = Bounds.of(settings)
        self.listener = Listener(
            bounds,
            metrics.of(IngressMetrics).connections_ended,
            MessageHotPath(post, bounds, forms=accept.uploads is not None),
        )
        """Makes uvicorn's connections. Other ASGI servers work without it, more slowly."""
        first: AsgiApp = post
        if accept.uploads is not None:
            seconds = settings.ingress_body_timeout_ms / 1000
            first = PostForm(post, accept, accept.uploads, seconds=seconds)
        self.hot: Mapping[str, AsgiApp] = {MESSAGES: first, BATCH: batch}
        """The routes in front of FastAPI, by path. Their method is ``POST``."""
        self._body_limit = min(settings.ingress_max_body_bytes, _ORDINARY_BODY)
        self._readiness = readiness
        self.followed = followed
        """The event streams that consoles follow; ``drain`` ends them."""

    def drain(self, *, ready: bool = False) -> None:
        """Make ``/readyz`` say no, and go on serving requests. Call it before stopping.

        Each answer from now on is the last on its connection, so that clients with open connections
        move to another process before this one ends. The consoles' event streams end too; the
        consoles connect to another process.

        Args:
            ready: Leave ``/readyz`` as it is, because another process serves the same address. A
                proxy knows only the address: if it were told no, it would exclude that process too.
        """
        if not ready:
            self._readiness.drain()
        self.listener.leaving = True
        for stream in self.followed:
            stream.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        route = self.hot.get(scope["path"])
        if route is not None and scope["method"] == "POST":
            await route(scope, receive, send)  # the route calls the guard itself
            return
        try:
            if scope["path"] not in _FOR_PROBES:
                changes = scope["method"] not in SAFE
                self.accept.guard.check(dict(scope["headers"]), changes=changes)
            if route is not None:
                await other_method(scope, send, ["OPTIONS", "POST"])
            else:
                await self._ordinary(scope, receive, send)
        except Problem as problem:
            await respond_problem(send, problem, None)
        except Disconnected:
            return

    async def _ordinary(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for any path outside the hot path."""
        method = scope["method"]
        if method == "OPTIONS":
            await other_method(scope, send, error_handlers.allowed_methods(self.api, scope))
            return
        if method == "HEAD":
            scope, send = head(scope, send)
        elif method != "GET":
            headers = by_name(scope["headers"])
            body = await self.accept.bodies.read(
                headers, receive, self._body_limit, _ORDINARY_LIMIT
            )
            if body and is_json(headers):
                check_json(body)
            receive = replayed(body, receive)
        if scope["path"].startswith(_TRACED):
            await traced(self.api, self.accept.tracer, scope, receive, send)
        else:
            await self.api(scope, receive, send)
