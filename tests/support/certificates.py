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


def self_signed(
    folder: Path,
    name: str = "server",
    host: str = "localhost",
    usage: str = "digitalSignature,keyCertSign",
) -> Certificate:
    """Make a self-signed certificate in ``folder`` for ``host`` and 127.0.0.1.

    ``usage``: what its key may do. RFC 5280 demands that an authority says it, and Python from 3.13
    on refuses one that does not.
    """
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    openssl = program("openssl", package="openssl")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(made.key), "-out", str(made.certificate), "-subj", f"/CN={host}"),
            *("-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1"),
            *(("-addext", f"keyUsage=critical,{usage}") if usage else ()),
        ],
        check=True,
        capture_output=True,
    )
    return made


def issued_by(
    authority: Certificate, folder: Path, name: str, *, days: int = 2, local: bool = False
) -> Certificate:
    """Make a certificate in ``folder`` for ``name``, signed by ``authority``.

    One of 0 ``days`` has expired. ``local``: whether it is for localhost and 127.0.0.1 too.
    """
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request, names = folder / f"{name}.csr", folder / f"{name}.names"
    here = ",DNS:localhost,IP:127.0.0.1" if local else ""
    names.write_text(
        f"subjectAltName=DNS:{name}{here}\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    openssl = program("openssl", package="openssl")
    for arguments in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
         "-keyout", str(made.key), "-out", str(request)],
        ["x509", "-req", "-days", str(days), "-in", str(request), "-CAcreateserial",
         "-extfile", str(names),
         "-CA", str(authority.certificate), "-CAkey", str(authority.key),
         "-out", str(made.certificate)],
    ):  # fmt: skip
        subprocess.run([openssl, *arguments], check=True, capture_output=True)
    return made
