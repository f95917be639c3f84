"""The images that our files name, for an engine of the tests' own: pulled, or made here.

Where no registry can be reached they are made of the distribution's packages: other versions of the
same servers, under the names that our files use, in ``distribution/*.Dockerfile``. Two can't be
had so: Jaeger, for which a small receiver of traces stands in, and Grafana, which is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from compose.local.kafka_jars import kafka_jars
from tests.containers.engine import Engine, EngineMissing
from tests.support.services import REDIS_IMAGES

__all__ = ["Images", "add_plugins", "named_images"]

ROOT = Path(__file__).parents[2]
_DOCKER = ROOT / "compose" / "docker"
_RECIPES = Path(__file__).parent / "distribution"
_SUITE = "trixie"
_BASE = "crossfade-distribution"
_AUTHORITIES = Path("/usr/local/share/ca-certificates")  # what this machine trusts besides
_LABEL = "crossfade.made-here"
_MADE_HERE = ("--network=host", "--label", f"{_LABEL}=yes")
_PULL_SECONDS = 30.0
_PLUGINS = {"compose": "docker-compose", "buildx": "docker-buildx"}
_MADE = {
    "python": "python",
    "valkey/valkey": "valkey",
    "redis": "redis",
    "postgres": "postgres",
    "prom/prometheus": "prometheus",
    "apache/kafka": "kafka",
}


def named_images() -> list[str]:
    """Return the images that the container files and ``TEST_SERVICES=docker`` start from."""
    services = yaml.safe_load((_DOCKER / "compose.yml").read_text())["services"].values()
    bases = re.findall(r"^FROM (\S+)", (_DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    named = [
        *bases,
        *(service["image"] for service in services if "build" not in service),
        *REDIS_IMAGES,
    ]
    return list(dict.fromkeys(named))


class Images:
    """Provides images to ``engine``. ``registry``: whether one may be asked."""

    def __init__(self, engine: Engine, scratch: Path, *, registry: bool) -> None:
        self._engine = engine
        self._scratch = scratch
        self._registry = registry

    def provide(self, name: str) -> str:
        """Provide the image ``name``; return how: ``there``, ``pulled``, ``made`` or ``missing``.

        One that was made here before counts as ``made``.
        """
        if self._has(name):
            return "made" if self._was_made_here(name) else "there"
        if self._registry:
            self._registry = self._pulled(name)
            if self._registry:
                return "pulled"
        recipe = _MADE.get(name.rpartition(":")[0])
        if recipe is None:
            return "missing"
        if not self._has(_BASE):
            self._import_distribution()
        folder = self._kafka_folder() if recipe == "kafka" else _RECIPES
        self._build(name, _RECIPES / f"{recipe}.Dockerfile", folder, *_MADE_HERE)
        return "made"

    def build_ours(self, *, network: str | None) -> None:
        """Build ``compose/docker/Dockerfile``, as Compose does, on a network if it needs one."""
        where = [f"--network={network}"] if network else []
        self._build("crossfade", _DOCKER / "Dockerfile", ROOT, *where)

    def stand_in_for_traces(self, name: str) -> None:
        """Make the receiver of traces, under the name of the image that it stands in for."""
        self._build(name, _RECIPES / "traces.Dockerfile", _RECIPES, *_MADE_HERE)

    def _was_made_here(self, name: str) -> bool:
        asked = ("--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}')
        said = self._engine.docker("image", "inspect", *asked, name).stdout.strip()
        return said not in {"", "<no value>"}

    def _has(self, name: str) -> bool:
        return self._engine.docker("image", "inspect", name).returncode == 0

    def _pulled(self, name: str) -> bool:
        try:
            done = self._engine.docker("pull", "--quiet", name, timeout=_PULL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _build(self, name: str, recipe: Path, context: Path, *options: str) -> None:
        done = self._engine.docker(
            "build", *options, "--tag", name, "--file", str(recipe), str(context)
        )
        if done.returncode != 0:
            raise EngineMissing(f"{name} could not be built:\n{_end_of(done)}")

    def _import_distribution(self) -> None:
        root = distribution(self._scratch)
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            done = self._engine.docker("import", "-", _BASE, stdin=tar.stdout)
        if done.returncode != 0:
            raise EngineMissing(f"the distribution could not be imported:\n{_end_of(done)}")

    def _kafka_folder(self) -> Path:
        folder = self._scratch / "kafka"
        folder.mkdir()
        shutil.copytree(kafka_jars(), folder / "jars")
        shutil.copy(_RECIPES / "kafka-entrypoint.sh", folder)
        return folder


def distribution(scratch: Path) -> Path:
    """Return the folder of a small Debian, made on first use."""
    root = scratch / "root"
    if (root / "etc" / "debian_version").exists():
        return root
    _run(
        "debootstrap", "--variant=minbase", "--include=ca-certificates", _SUITE, str(root), _site()
    )
    authorities = [*_AUTHORITIES.glob("*.crt")] if _AUTHORITIES.is_dir() else []
    for authority in authorities:
        shutil.copy(authority, root / "usr" / "local" / "share" / "ca-certificates")
    _run("chroot", str(root), "update-ca-certificates")
    return root


def add_plugins(config: Path, scratch: Path) -> None:
    """Put Compose and BuildKit where ``docker`` looks for them, if it has none by itself."""
    folder = config / "cli-plugins"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: package for name, package in _PLUGINS.items() if not _works(name, config)}
    if not wanted:
        return
    root = distribution(scratch)
    _run("chroot", str(root), "apt-get", "update", "-qq")
    _run(
        "chroot", str(root), "sh", "-c", f"cd /tmp && apt-get download {' '.join(wanted.values())}"
    )
    with tempfile.TemporaryDirectory() as unpacked:
        for package in (root / "tmp").glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), unpacked)
            package.unlink()
        for plugin in Path(unpacked).rglob("cli-plugins/docker-*"):
            shutil.copy(plugin, folder)


def _works(plugin: str, config: Path) -> bool:
    return Engine({"DOCKER_CONFIG": str(config)}).docker(plugin, "version").returncode == 0


def _site() -> str:
    """Return the address of this machine's own package index."""
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages")
    return sites.split()[0]


def _run(*command: str) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode != 0:
        raise EngineMissing(f"{' '.join(command)}:\n{_end_of(done)}")
    return done.stdout


def _end_of(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-15:])
