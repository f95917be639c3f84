"""httpx: one client; a thread for each of many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
from steps import Step, failed, report, waves


def send(client: httpx.Client, step: Step) -> None:
    headers = step.headers | ({"Expect": "100-continue"} if step.expect else {})
    content = step.pieces() if step.chunked else step.body
    try:
        answer = client.request(step.method, step.url, headers=headers, content=content)
    except httpx.HTTPError as error:
        failed(step, error)
    else:
        report(step, answer.status_code, answer.headers.get("Content-Type"), answer.content)


def main() -> None:
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(16) as threads:
        for wave in waves():
            list(threads.map(lambda step: send(client, step), wave))


main()
