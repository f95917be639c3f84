"""A well-behaved client in a process of its own: what it feels is the service's doing alone.

``python -m tests.hostile.http.well_behaved_client PORT`` checks health on new connections and posts
on one that is kept, until its standard input ends; then it prints what each took, in seconds, and
its status.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
import uuid

_JSON = {"Content-Type": "application/json"}


def _main(port: int) -> None:
    felt: dict[str, list[tuple[float, int]]] = {"health": [], "POST": []}
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        begun = time.perf_counter()
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        fresh.request("GET", "/healthz", headers={"Connection": "close"})
        answer = fresh.getresponse()
        answer.read()
        felt["health"].append((time.perf_counter() - begun, answer.status))
        fresh.close()
        message = {
            "conversationId": "c1", "senderId": "u1", "content": "hello", "contentType": "text",
            "clientMessageId": str(uuid.uuid4()), "recipientIds": ["u2"],
        }  # fmt: skip
        begun = time.perf_counter()
        kept.request("POST", "/api/messages", json.dumps(message), _JSON)
        answer = kept.getresponse()
        answer.read()
        felt["POST"].append((time.perf_counter() - begun, answer.status))
        if len(felt["POST"]) == 10:
            sys.stdout.write("begun\n")
            sys.stdout.flush()
    sys.stdout.write(json.dumps(felt) + "\n")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
