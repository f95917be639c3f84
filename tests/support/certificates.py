"""Makes certificates for this machine with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.requirements import program

__all__ = ["Certificate", "issued_by", "self_signed"]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str = "server", host: str = "localhost") -> Certificate:
    """Make a self-signed certificate in ``folder`` for ``host`` and 127.0.0.1."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    openssl = program("openssl", package="openssl")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(made.key), "-out", str(made.certificate), "-subj", f"/CN={host}"),
            *("-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return made


def issued_by(authority: Certificate, folder: Path, name: str) -> Certificate:
    """Make a certificate in ``folder`` for a client called ``name``, signed by ``authority``."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request = folder / f"{name}.csr"
    openssl = program("openssl", package="openssl")
    for arguments in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
         "-keyout", str(made.key), "-out", str(request)],
        ["x509", "-req", "-days", "2", "-in", str(request), "-CAcreateserial",
         "-CA", str(authority.certificate), "-CAkey", str(authority.key),
         "-out", str(made.certificate)],
    ):  # fmt: skip
        subprocess.run([openssl, *arguments], check=True, capture_output=True)
    return made
