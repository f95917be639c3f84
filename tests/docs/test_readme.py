"""What the README shows to type is what ``make up`` shows to type, and what it answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from compose.commands.up.panel import CURL
from transport.message.identity import idempotency_key, message_id

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def _body(text: str) -> dict[str, Any]:
    (found,) = re.findall(r"-d '(\{.*?\})'", text, re.DOTALL)
    body: dict[str, Any] = json.loads(found)
    return body


def test_the_request_is_the_one_that_make_up_shows() -> None:
    """They have the same key: with another body the second of them would be refused."""
    assert _body(README) == _body(CURL.format(url="http://localhost:3000"))


def test_the_answer_is_the_one_that_this_request_gets() -> None:
    body = _body(README)
    key = idempotency_key(body["senderId"], body["conversationId"], body["clientMessageId"])
    (answer,) = re.findall(r"```json\n(\{.*?\})\n```", README, re.DOTALL)
    assert json.loads(answer)["messageId"] == message_id(key, body["conversationId"])


def test_the_steps_of_the_guide_still_work_after_this_request() -> None:
    """Their body differs, so with this key they would be refused."""
    steps = _body((ROOT / "docs" / "deployment_guide.md").read_text("utf-8"))
    assert steps["clientMessageId"] != _body(README)["clientMessageId"]
