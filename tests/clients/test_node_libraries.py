"""What the documentation says of libraries for Node, run against the service and its faults."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from compose.local.kafka_jars import cache_dir
from tests.support.npm import NotFetchedError, fetched_packages
from tests.support.requirements import absent, program

from .conftest import API_KEY, ROOT, Site

PAGE = (Path(__file__).parents[2] / "docs" / "use_from_your_application.md").read_text("utf-8")
_LIBRARIES = ("axios@1.21.1", "axios-retry@4.5.0", "got@14.6.6", "ky@1.14.3", "undici@6.29.1")
_NEST = ("@nestjs/common@11.2.10", "@nestjs/core@11.2.10", "reflect-metadata@0.2.2", "rxjs@7.8.2")
_SENDERS = {
    "axios": """
        import axios from "axios";
        import axiosRetry from "axios-retry";
        axiosRetry(axios, { OPTIONS });
        const post = (json) => axios.post(url, json, { headers, timeout: 1000 });""",
    "got": """
        import got from "got";
        const timeout = { response: 1000 };
        const post = (json) => got.post(url, { json, headers, timeout, OPTIONS });""",
    "ky": """
        import ky from "ky";
        const post = (json) => ky.post(url, { json, headers, timeout: 1000, OPTIONS });""",
    "undici": """
        import { Agent, RetryAgent, request } from "undici";
        const dispatcher = new RetryAgent(new Agent({ headersTimeout: 1000 }), { OPTIONS });
        headers["Content-Type"] = "application/json";
        const post = async (json) => {
          const body = JSON.stringify(json);
          const answer = await request(url, { method: "POST", headers, body, dispatcher });
          await answer.body.dump();
          if (answer.statusCode > 299) throw new Error(String(answer.statusCode));
        };""",
}
_PROGRAM = """
const [url, key, conversationId] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };
SENDER
for (const content of ["lost", "held", "in order"]) {
  await post({ conversationId, senderId: "node", clientMessageId: content, content });
}
process.exit();
"""
_NEST_PROGRAM = """
require("reflect-metadata");
const { types } = require("node:util");
const { NestFactory } = require("@nestjs/core");
const { Orders, OrdersModule } = require("./nestjs.js");
if (types.isModuleNamespaceObject(require("@crossfade/client"))) {
  throw new Error("what was required is an ES module, which Jest and older Nodes can't require");
}
NestFactory.createApplicationContext(OrdersModule, { logger: ["error"] }).then(async (app) => {
  await app.get(Orders).paid("nest", "event-1");
  await app.get(Orders).paid("nest", "event-1");
  await app.close();
});
"""
_TSCONFIG = """{
  "compilerOptions": {
    "target": "ES2023", "module": "NodeNext", "moduleResolution": "NodeNext", "types": [],
    "experimentalDecorators": true, "emitDecoratorMetadata": true, "strict": true,
    "skipLibCheck": true
  },
  "files": ["nestjs.ts"]
}"""


def _modules(name: str, packages: Sequence[str]) -> Path:
    try:
        return fetched_packages(cache_dir(), name, packages).parent
    except NotFetchedError as error:
        absent(f"{name}: {error}")


async def _run(folder: Path, *command: str, **names: str) -> None:
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **names},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await running.communicate()
    assert running.returncode == 0, said.decode()


@pytest.mark.parametrize("library", _SENDERS)
async def test_a_library_with_the_options_on_the_page_sends_until_it_is_accepted(
    library: str, site: Site, tmp_path: Path
) -> None:
    node = program("node", package="nodejs")
    (tmp_path / "node_modules").symlink_to(_modules("node-libraries", _LIBRARIES))
    (options,) = re.findall(rf"^\| {library}\b.*?`([^`]*: [^`]*)` \|$", PAGE, re.MULTILINE)
    sender = _SENDERS[library].replace("OPTIONS", options)
    (tmp_path / "send.mjs").write_text(_PROGRAM.replace("SENDER", sender), "utf-8")

    site.front.lose_reply_to(b'"content":"lost"')
    site.front.hold(b'"content":"held"')
    url, conversation = f"{site.url}/api/messages", f"by {library}"
    async with asyncio.timeout(60):
        await _run(tmp_path, node, "send.mjs", url, API_KEY, conversation)
    assert site.front.held.is_set()
    site.front.release()
    assert await site.rows(conversation, 3) == ["lost", "held", "in order"]


async def test_the_example_for_nestjs_runs_as_commonjs(
    compiled: Path, site: Site, tmp_path: Path
) -> None:
    """``nest new`` makes CommonJS, and Jest requires everything."""
    scope = tmp_path / "node_modules" / "@crossfade"
    scope.mkdir(parents=True)
    (scope / "client").symlink_to(compiled)
    for package in _modules("nestjs", _NEST).iterdir():
        if not package.name.startswith("."):
            (tmp_path / "node_modules" / package.name).symlink_to(package)
    (tmp_path / "nestjs.ts").write_text((ROOT / "examples" / "nestjs.ts").read_text("utf-8"))
    (tmp_path / "tsconfig.json").write_text(_TSCONFIG)
    (tmp_path / "main.js").write_text(_NEST_PROGRAM)
    await _run(tmp_path, str(compiled / "node_modules" / ".bin" / "tsc"), "--project", ".")
    names = {"CROSSFADE_URL": site.url, "CROSSFADE_API_KEY": API_KEY}
    await _run(tmp_path, program("node", package="nodejs"), "main.js", **names)
    assert await site.rows("order-nest", 1) == ['{"paid":true}']
