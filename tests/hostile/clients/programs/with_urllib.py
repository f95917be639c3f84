"""urllib.request, from the standard library: one connection for each request."""

from __future__ import annotations

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from steps import Step, failed, report, waves


def send(step: Step) -> None:
    headers = step.headers | ({"Expect": "100-continue"} if step.expect else {})
    data = step.pieces() if step.chunked else step.body
    request = urllib.request.Request(step.url, data, headers, method=step.method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            report(step, answer.status, answer.headers.get("Content-Type"), answer.read())
    except urllib.error.HTTPError as error:  # an answer all the same
        with error:
            report(step, error.code, error.headers.get("Content-Type"), error.read())
    except OSError as error:
        failed(step, error)


def main() -> None:
    with ThreadPoolExecutor(16) as threads:
        for wave in waves():
            list(threads.map(send, wave))


main()
