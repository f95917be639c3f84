"""The guide's chapters, made from the phases, so that the two can't disagree.

``python -m migration_guide.chapters`` writes them to ``migration_guide/guide``; a test holds the
files to what it would write.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from migration_guide.phases import LAST, STEPS, Phase, PhaseStep, phases
from persistence.fleet.log_choice import FIRST_PAIR

__all__ = ["FOLDER", "chapters"]

_PHASES = phases(FIRST_PAIR)

FOLDER = Path(__file__).parent / "guide"


def chapters() -> dict[str, str]:
    """Return each chapter by its file's name."""
    return {f"{phase.number}-{phase.name}.md": _chapter(phase) for phase in _PHASES}


def _chapter(phase: Phase) -> str:
    into = [step for step in STEPS if step.to == phase.number and step.forward]
    back = [step for step in STEPS if step.origin == phase.number and not step.forward]
    parts = [f"# Phase {phase.label}", f"{phase.what}\n\n**Why.** {phase.why}", _settings(phase)]
    parts += [_command("Getting here", step, "advance") for step in into]
    watch = "\n".join(f"* {_code(name)}" for name in phase.watch)
    parts += [f"## What to watch\n\n{watch}\n\nLive: `crossfade migrate watch`."]
    parts += [_command("Rolling back", step, "rollback") for step in back]
    parts += [_neighbours(phase)]
    return "\n\n".join(parts) + "\n"


def _settings(phase: Phase) -> str:
    values = phase.choice.environment()
    given = "\n".join(f"{name}={value}" for name, value in values.items() if value)
    unset = " and ".join(f"`{name}`" for name, value in values.items() if not value)
    text = f"## Settings\n\n```\n{given}\n```"
    return f"{text}\n\n{unset} unset." if unset else text


def _command(title: str, step: PhaseStep, verb: str) -> str:
    origin, target = _PHASES[step.origin], _PHASES[step.to]
    command = "check" if step.forward else "check --back"
    line = " ".join(
        f"{name}={value}" for name, value in target.choice.environment().items() if value
    )
    text = (
        f"## {title}: {origin.label} to {target.label}\n\n"
        f"```bash\ncrossfade migrate {command}\n"
        f'crossfade migrate {verb} --why "phase {target.number}"\n```\n\n'
        "It judges the gates, records the step and says what to set. Restart the processes one "
        "after another with the settings of "
        f"[phase {target.label}]({target.number}-{target.name}.md); where `make up` runs, Ctrl-C "
        f"there and\n\n```bash\n{line} make up\n```\n\n"
        "The step is complete when every process is on it.\n\n"
        "| gate | green when |\n|---|---|\n"
        + "\n".join(f"| `{name}` | {_gate(name)} |" for name in step.gates)
    )
    return f"{text}\n\n{step.note}" if step.note else text


def _neighbours(phase: Phase) -> str:
    links = [
        f"[{_PHASES[number].label}]({number}-{_PHASES[number].name}.md)"
        for number in (phase.number - 1, phase.number + 1)
        if 0 <= number <= LAST
    ]
    return f"{' · '.join(links)} · [the guide](../../docs/KAFKA_MIGRATION_GUIDE.md)"


def _gate(name: str) -> str:
    """Return the meaning of a gate, from its own module."""
    text = importlib.import_module(f"migration_guide.gates.{name}").__doc__ or ""
    first = " ".join(text.split("\n\n")[0].split())
    return first.partition(": ")[2].rstrip(".")


def _code(name: str) -> str:
    return f"`{name}`" if "_" in name else name


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in chapters().items():
        (FOLDER / name).write_text(text)
