"""Every command and every setting that a page names is there; a runbook is followed at night."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from compose.cli import application
from compose.settings import load
from migration_guide.chapters import FOLDER

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "RUNBOOKS.md",
    ROOT / "SECURITY.md",
    # The page of commands is made from them, and names each as it is called.
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "cli.md"),
    *sorted(FOLDER.glob("*.md")),
)
_TEXTS = {path.name: path.read_text("utf-8") for path in DOCUMENTS}
_CODE = re.compile(r"`([^`\n]+)`|^(crossfade .*)$", re.MULTILINE)
COMMANDS = sorted(
    {
        code.partition("#")[0].strip()
        for text in _TEXTS.values()
        for code in (inline or line for inline, line in _CODE.findall(text))
        if code.startswith("crossfade ")
    }
)
_NO_SETTINGS = {
    # of the compose file, of tests, of OpenTelemetry (named as without effect)
    *("PROMETHEUS_PORT", "GRAFANA_PORT", "TRACES_PORT"),
    *("CONTAINERS_FOLDER", "CHAOS_MINUTES", "CHAOS_SEED", "TEST_PGBOUNCER"),
    *("OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SEMCONV_STABILITY_OPT_IN"),
    *("OTEL_CONFIG_FILE", "OTEL_LOG_LEVEL", "OTEL_PYTHON_ID_GENERATOR"),
    # of the library that exports spans over HTTP
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # an error of HTTP/2
    "PROTOCOL_ERROR",
    # of every program that makes requests
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    # an encoding of PostgreSQL
    "SQL_ASCII",
    # of the payload store's provider
    *("AWS_ACCESS_KEY_ID", "AWS_REGION"),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    # what a command that restarts processes finds in its environment
    "CROSSFADE_PHASE",
    # what the checker of the chaos runs calls its findings
    *("DEAD_LETTERED", "POISON_VANISHED", "ID_CHANGED", "CONFLICT_LOST"),
}
_NO_FILE = Path("/nonexistent/.env")


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(application())
    words = shlex.split(line)[1:]
    while words and (commands := getattr(command, "commands", None)):
        name = words.pop(0)
        assert name in commands, f"there is no 'crossfade {name}'"
        command = commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    given = {word for word in words if word.startswith("-")}
    assert given <= options | {"--help"}
    for parameter in () if "--help" in given else command.params:
        if parameter.required and parameter.param_type_name == "option":
            assert given & set(parameter.opts), f"it does not run without {parameter.opts}"


@pytest.mark.parametrize("document", _TEXTS)
def test_a_setting_exists(document: str) -> None:
    known = {field.upper() for part in load(env_file=_NO_FILE) for field in type(part).model_fields}
    # A log's own setting (`LOG_EU_KAFKA_TOPIC`) is a setting behind the log's label.
    named = set(re.findall(r"`(?:LOG_(?:EU|B)_)?([A-Z]+(?:_[A-Z]+)+)(?==|`)", _TEXTS[document]))
    assert named - known - _NO_SETTINGS == set()


def test_every_link_within_the_runbooks_leads_to_a_section() -> None:
    text = _TEXTS["RUNBOOKS.md"]
    sections = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"(?m)^#{2,3} (.+)$", text)
    }
    linked = set(re.findall(r"\]\(#([\w-]+)\)", text))
    for document in _TEXTS.values():
        linked |= set(re.findall(r"\]\((?:\.\./)?RUNBOOKS\.md#([\w-]+)\)", document))
    assert linked - sections == set()
