"""requests: one session, as its documentation recommends; a thread for each of many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import requests
from steps import Step, failed, report, waves


def send(session: requests.Session, step: Step) -> None:
    headers = step.headers | ({"Expect": "100-continue"} if step.expect else {})
    data = step.pieces() if step.chunked else step.body
    try:
        answer = session.request(step.method, step.url, headers=headers, data=data, timeout=30)
    except requests.RequestException as error:
        failed(step, error)
    else:
        report(step, answer.status_code, answer.headers.get("Content-Type"), answer.content)


def main() -> None:
    with requests.Session() as session, ThreadPoolExecutor(16) as threads:
        for wave in waves():
            list(threads.map(lambda step: send(session, step), wave))


main()
