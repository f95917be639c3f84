"""Builds request bytes from parts made in advance, so that a request needs no JSON encoding."""

from __future__ import annotations

import json

from lab.bench.load.job import Job

__all__ = ["Requests", "client_message_id"]


def client_message_id(run: str, number: int) -> str:
    """Return the ``clientMessageId`` of message ``number`` of a run."""
    return f"{run}-{number:012d}"


class Requests:
    """Makes the requests of a job as bytes. Every message has its own key."""

    def __init__(self, job: Job) -> None:
        self._batch = job.batch
        self._run = job.run.encode()
        self._messages = [_split(job, i) for i in range(job.conversations)]
        self._count = job.conversations
        path = "/api/messages" if job.batch == 1 else "/api/messages:batch"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._head = head
        size = len(self._body(0))
        # Keys have a fixed length, so all requests of a job have the length of the first.
        self._single = [
            (head + b"%d\r\n\r\n" % (len(a) + len(b) + len(self._run) + 13) + a, b)
            for a, b in self._messages
        ]
        self.request_bytes = len(head) + len(b"%d\r\n\r\n" % size) + size

    def request(self, number: int) -> bytes:
        """Return request ``number``; a batch begins with message ``number * batch``."""
        if self._batch == 1:
            before, after = self._single[number % self._count]
            return b"%b%b-%012d%b" % (before, self._run, number, after)
        body = self._body(number)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def _body(self, number: int) -> bytes:
        first = number * self._batch
        parts = []
        for n in range(first, first + self._batch):
            before, after = self._messages[n % self._count]
            parts.append(b"%b%b-%012d%b" % (before, self._run, n, after))
        return parts[0] if self._batch == 1 else b"[" + b",".join(parts) + b"]"


def _split(job: Job, conversation: int) -> tuple[bytes, bytes]:
    """Return a message of one conversation, split at the place of its ``clientMessageId``."""
    mark = "@@"
    message = json.dumps(
        {
            "conversationId": f"{job.run}-conversation-{conversation:06d}",
            "senderId": f"user_{conversation % 1000:04d}",
            "content": ("Load test message " + "x" * job.content_bytes)[: job.content_bytes],
            "contentType": "text",
            "clientMessageId": mark,
            "recipientIds": [f"user_{(conversation + 1) % 1000:04d}"],
        }
    )
    before, after = message.split(mark)
    return before.encode(), after.encode()
