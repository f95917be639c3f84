"""A self-signed certificate for this machine, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.requirements import program

__all__ = ["Certificate", "self_signed"]


@dataclass(frozen=True)
class Certificate:
    """A certificate, which is its own authority, and its key; PEM files."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str = "server") -> Certificate:
    """Make one in ``folder`` for ``localhost`` and 127.0.0.1."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    openssl = program("openssl", package="openssl")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(made.key), "-out", str(made.certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return made
