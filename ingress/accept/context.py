"""The parts that the routes which accept messages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from ingress.accept.admission import Admission
from ingress.accept.bodies import Bodies
from ingress.accept.group_commit import GroupCommit
from ingress.accept.intake import Intake
from ingress.accept.recent_keys import RecentKeys
from ingress.accept.row_lookup import RowLookup
from ingress.accept.submission import Submission
from ingress.accept.unread_keys import UnreadKeys
from ingress.accept.uploads import Uploads
from ingress.web.access import PRODUCE
from ingress.web.auth import ApiKey, Authenticator
from ingress.web.browser import Guard
from ingress.web.headers import Headers
from otel.tracing.requests import Tracer

__all__ = ["AcceptContext"]


@dataclass(frozen=True, kw_only=True)
class AcceptContext:
    """The parts that a message passes on its way in. A process has one of each."""

    guard: Guard
    auth: Authenticator
    bodies: Bodies
    intake: Intake
    commits: GroupCommit
    admission: Admission
    row_lookup: RowLookup
    recent: RecentKeys
    tracer: Tracer
    hits: Counter
    """Counts messages that were accepted before."""
    unread_keys: UnreadKeys | None = None
    """Finds the keys that other processes accepted; ``None`` if the log remembers keys."""
    uploads: Uploads | None = None
    """Moves large content to the payload store; ``None`` if there is no store."""

    def admit(self, headers: Headers) -> ApiKey | None:
        """Check a producer's request before its body is read.

        Returns:
            The request's key, for ``Submission.admit``; ``None`` if no keys are needed.

        Raises:
            Problem: The request may not produce, too much is waiting, or rows are too late.
        """
        self.guard.check(headers, changes=True)
        key = self.auth.check(headers, *PRODUCE.scopes, limited=PRODUCE.limited)
        self.commits.admit()
        self.admission.take()
        return key

    async def submit(self, messages: Sequence[Submission]) -> None:
        """Hand in one request's messages, and wait until each has its verdict.

        Raises:
            Problem: The service is shutting down (503).
        """
        if self.uploads is None:
            await self.commits.submit(messages)
        else:
            await self.uploads.submit(messages)
