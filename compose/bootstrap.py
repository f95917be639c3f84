"""Makes the virtual environment of the Makefile's targets; remakes it when its inputs change.

The machine's ``python3`` runs it, before anything is installed:

    python3 compose/bootstrap.py local dev

It uses only the standard library and syntax of Python 3.6, so that an old Python can run it and
print what is wrong.
"""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

AT_LEAST, BELOW = (3, 11), (3, 15)
TAKEN = ("python3.14", "python3.13", "python3.12", "python3.11")
ROOT = Path(__file__).resolve().parent.parent
IS_OPTIMISED = (
    "import ensurepip, sys; sys.path.insert(0, {!r}); "
    "from compose.interpreter import is_plain; sys.exit(is_plain())"
).format(str(ROOT))
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
# Extras that are packages of this checkout, and their folders.
PACKAGES = {"client": "clients/python", "lab": "lab"}
INPUTS = ["pyproject.toml", "constraints.txt"]
INPUTS += [folder + "/pyproject.toml" for folder in PACKAGES.values()]
INTERRUPTED = 130  # as in shells: 128 plus the signal's number


def fail(message: str) -> NoReturn:
    """End with one message for people."""
    sys.exit(f"error: {message}")


def runs(command: str, program: str = "") -> bool:
    """Return whether a Python runs: a version manager's shim may exist without a Python."""
    try:
        done = subprocess.run(
            [command, "-c", program],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def others() -> "list[str]":
    """Return the Pythons on the PATH of versions that are taken, the newest first."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = (shutil.which(name, path=folder) for name in TAKEN for folder in folders)
    return [path for path in found if path]


def use_the_best_python() -> None:
    """Restart with another Python if this one is too old, or too new for some dependencies.

    Also if it was built without optimizations, and another one was not: the service takes a fifth
    less CPU there. ``make PYTHON=...`` keeps the one that is named, if it is taken.
    """
    is_taken = AT_LEAST <= sys.version_info[:2] < BELOW
    if is_taken and ("PYTHON" in os.environ or runs(sys.executable, IS_OPTIMISED)):
        return
    for program in [IS_OPTIMISED] if is_taken else [IS_OPTIMISED, ""]:
        for path in others():
            if runs(path, program):
                os.execv(path, [path, *sys.argv])
    if is_taken:
        return
    why = "" if sys.version_info < AT_LEAST else ": some dependencies have no packages for it yet"
    fail(
        f"Crossfade needs Python 3.11 to 3.14, and {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}{why}.\n"
        "Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv; macOS: brew "
        "install python), or name one: make PYTHON=/path/to/python3.11 ..."
    )


def wanted(extras: "Iterable[str]") -> str:
    """Return the inputs of the environment, which is remade when they change."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    version = ".".join(map(str, sys.version_info[:3]))
    return "\n".join((digest.hexdigest(), version, str(ROOT), *sorted(extras)))


def installed() -> str:
    """Return the inputs of the installed environment; empty if it is missing, broken or moved."""
    try:
        stamp = STAMP.read_text()
    except OSError:
        return ""
    return stamp if runs(str(PYTHON)) else ""


def is_enough(has: str, needs: str) -> bool:
    """Return whether the installed environment has the same inputs and at least these extras."""
    got, asked = has.split("\n"), needs.split("\n")
    return got[:3] == asked[:3] and set(asked[3:]) <= with_contained(got[3:])


def with_contained(extras: "Iterable[str]") -> "set[str]":
    """Return ``extras`` and the extras that they include: ``dev`` has ``crossfade[tracing]``."""
    import tomllib  # noqa: PLC0415 - only a Python that is new enough has it

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    left = [extra for extra in extras if extra]
    while left:
        extra = left.pop()
        found.add(extra)
        for requirement in project["optional-dependencies"].get(extra, ()):
            own = re.match(project["name"] + r"\s*\[([^\]]*)\]", requirement)
            named = {name.strip() for name in own.group(1).split(",")} if own else set()
            left.extend(named - found)
    return found


def make_venv() -> None:
    """Make an empty environment with venv, or with virtualenv if venv does not work."""
    ways = [[sys.executable, "-m", "venv", "--clear", str(VENV)]]
    if shutil.which("virtualenv"):
        ways.append(["virtualenv", "--clear", "--python", sys.executable, str(VENV)])
    said = ""
    for way in ways:
        made = subprocess.run(way, capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return
        said = said or (made.stdout + made.stderr).strip()
    version = ".".join(map(str, sys.version_info[:2]))
    fail(
        f"{sys.executable} can't make a virtual environment:\n{said}\n\n"
        "On Debian and Ubuntu that part of Python is a package of its own:\n"
        f"  apt-get install python{version}-venv"
    )


def install(extras: "Iterable[str]") -> None:
    """Install the project, and its packages that ``extras`` name, all editable.

    Every version is as pinned in constraints.txt.
    """
    # A URL, since pip splits the variable at spaces, and a path may have some.
    constraints = (ROOT / "constraints.txt").as_uri()
    command = [
        str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--constraint", constraints, "--editable", "{}[{}]".format(ROOT, ",".join(sorted(extras))),
    ]  # fmt: skip
    for extra in sorted(with_contained(extras) & set(PACKAGES)):
        command += ["--editable", str(ROOT / PACKAGES[extra])]
    # The project is built in an environment of its own: old versions of pip constrain it by the
    # first variable, new ones by the second.
    pinned = {"PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints}
    if subprocess.run(command, env={**os.environ, **pinned}, check=False).returncode != 0:
        fail("the packages could not be installed (see above); the same command tries again")


def unwritable(path: Path) -> str:
    """Return the error for a ``path`` that can't be written, with the remedy."""
    at = path if path.exists() else path.parent
    uid = at.stat().st_uid
    if os.statvfs(str(at)).f_flag & os.ST_RDONLY:
        return f"{path} is on a file system mounted read-only; copy the project to another folder"
    if uid == os.geteuid():
        return f"{path} can't be written: its permissions forbid it (chmod u+rwx {at})"
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = f"user {uid}"
    return (
        f"{path} belongs to another user ({owner}); run this as {owner}, or copy the project to a "
        "folder of your own"
    )


def main() -> None:
    """Make the environment, unless it exists and is current."""
    use_the_best_python()
    extras = set(sys.argv[1:])
    needs = wanted(extras)
    if is_enough(installed(), needs):
        return
    if VENV.is_symlink():
        fail(
            f"{VENV} is a link to {VENV.readlink()}, and all in that folder would be "
            "deleted; remove the link, and run this again"
        )
    for folder in (ROOT, VENV):
        if folder.exists() and not os.access(str(folder), os.W_OK):
            fail(unwritable(folder))
    # The lock is for two makes at once. It is not inside .venv, which --clear empties.
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        has = installed()
        if is_enough(has, needs):
            return
        if has.split("\n")[1:3] == needs.split("\n")[1:3]:
            extras |= set(has.split("\n")[3:])  # keep the extras of earlier targets
            STAMP.unlink()  # until the new environment is complete
        else:
            print("Making .venv (once) ...", flush=True)
            make_venv()
        print("Installing Crossfade and what it needs ...", flush=True)
        install(extras)
        STAMP.write_text(wanted(extras))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nInterrupted; the same command begins the installation again.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except PermissionError as error:
        fail(unwritable(Path(error.filename or ROOT)))
    except OSError as error:  # such as a full disk
        fail(f"{error.filename or ROOT}: {error.strerror}; the same command tries again")
