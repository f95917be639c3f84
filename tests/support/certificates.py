"""Makes certificates for this machine with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.requirements import program

__all__ = ["Certificate", "issued_by", "redated", "self_signed"]

# A key of RSA takes a tenth of a second to make, one of an elliptic curve no time.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


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
            *(openssl, "req", "-x509", *_NEW_KEY, "-nodes", "-days", "2"),
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
        ["req", "-new", *_NEW_KEY, "-nodes", "-subj", f"/CN={name}",
         "-keyout", str(made.key), "-out", str(request)],
        ["x509", "-req", "-days", str(days), "-in", str(request), "-CAcreateserial",
         "-extfile", str(names),
         "-CA", str(authority.certificate), "-CAkey", str(authority.key),
         "-out", str(made.certificate)],
    ):  # fmt: skip
        subprocess.run([openssl, *arguments], check=True, capture_output=True)
    return made


def redated(
    made: Certificate, authority: Certificate, *, begins: datetime, ends: datetime
) -> Certificate:
    """Give a certificate of ``authority`` other dates, in place: openssl 3.0 takes only days."""
    old = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begins,
        not_valid_after=ends,
        extensions=list(old.extensions),
    )
    key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # it is an EC key
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return made
