"""What ``crossfade up`` says when everything runs."""

from __future__ import annotations

import sys

from compose.console import err
from compose.local.stack import Stack
from compose.serve import Running
from compose.settings import Settings
from compose.terminal import Grid, framed, paragraph

__all__ = ["CURL", "part", "show"]

CURL = """curl -X POST {url}/api/messages \\
  -H "Content-Type: application/json" \\
  -d '{{
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello, Phase 3!",
    "contentType": "text",
    "clientMessageId": "client_msg_001",
    "recipientIds": ["user_002"]
  }}'"""


def show(settings: Settings, stack: Stack, running: Running) -> None:
    """Print the addresses, a request to try, and how to stop."""
    rows = Grid(show_header=False, padding=(0, 2), whole=True)
    rows.add_column(style="bold")
    rows.add_column(overflow="fold")
    rows.add_row("API", f"{running.url}   (/console, /docs, /readyz)")
    rows.add_row("Metrics", running.metrics_url)
    if stack.redis:
        redis = stack.redis
        address = f"redis-cli -p {redis.port} -n {settings.transport.redis_stream_db}"
        label, remark = part(settings, "redis")
        rows.add_row(label, _said(redis.binary.label, remark))
        rows.add_row("", address)
    if stack.kafka:
        label, remark = part(settings, "kafka")
        rows.add_row(label, _said(f"kafka {stack.kafka.bootstrap}", remark))
    rows.add_row("Rows", stack.postgres.binary.label)
    rows.add_row("", f"psql {stack.database_url}")
    rows.add_row("Data", f"{stack.postgres.data_dir.parent}   (kept when you stop)")
    rows.add_row("Durable", "the log is on disk (fsync) before a POST is acknowledged")
    rows.add_row("Commands", f"{sys.argv[0]} status, tail, message ID, audit, migrate status, ...")
    err.print(framed(rows, "Crossfade is running"))
    # Outside the panel, whose frame would be copied along.
    err.print("Try it, twice: the second answer is the same, and there is still one row.")
    err.print()
    err.print(paragraph(CURL.format(url=running.url)))
    err.print()
    err.print("Ctrl-C stops everything.")
    err.print()
    sys.stderr.flush()


def part(settings: Settings, name: str) -> tuple[str, str]:
    """Return what a log is to this process, in a word and in a remark."""
    transport = settings.transport
    if transport.transport_shadow is None:
        return ("Log", "") if name == transport.transport else ("Left log", "nothing new comes")
    read = ", read by workers" if name == transport.consumed else ""
    if name == transport.transport:
        return "Log", f"written first{read}"
    return "Shadow", f"{transport.transport_shadow_mode}{read}"


def _said(what: str, remark: str) -> str:
    return f"{what}   ({remark})" if remark else what
