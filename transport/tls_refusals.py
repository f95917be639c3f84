"""The reason why a TLS connection was refused for a certificate, with the remedy."""

from __future__ import annotations

import ssl

__all__ = ["certificate_refusal", "is_out_of_date"]

# Numbers of X509_V_ERR_* (openssl, x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)
_UNLIKE_RFC_5280 = range(80, 95)
"""What ``VERIFY_X509_STRICT`` finds, which is on by default from Python 3.13 on."""
_ALERTS = ("CERTIFICATE", "UNKNOWN_CA")


def certificate_refusal(error: BaseException, *, authorities: str, own: str) -> str | None:
    """Return why a certificate was refused; ``None`` if that is not the error's reason.

    Args:
        error: What ended the connection, or the attempt.
        authorities: The setting that names the trusted authorities.
        own: The setting that names our own certificate.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_the_server(error, authorities)
    if isinstance(error, ssl.SSLError) and _is_about_ours(error):
        return (
            f"the server refuses our certificate: look when it ends ({own}, crossfade doctor), and "
            "whether the server trusts its authority"
        )
    return None


def is_out_of_date(error: ssl.SSLCertVerificationError) -> bool:
    """Return whether the dates of the server's certificate are the reason, and not our settings."""
    return error.verify_code in {_NOT_YET_VALID, _EXPIRED}


def _of_the_server(error: ssl.SSLCertVerificationError, authorities: str) -> str:
    if error.verify_code == _EXPIRED:
        return (
            "the server's certificate, or one that vouches for it, has expired: renew it on the "
            "server; we connect again by ourselves"
        )
    if error.verify_code == _NOT_YET_VALID:
        return (
            "the server's certificate is not valid yet: compare the clocks of that machine and "
            "of this one"
        )
    if error.verify_code in _OTHER_NAME:
        return (
            "the server's certificate is of another name: address the server by the name that its "
            "certificate has"
        )
    if error.verify_code in _UNLIKE_RFC_5280:
        return (
            "the server's certificate, or its authority's, lacks what RFC 5280 demands, and Python "
            "from 3.13 on refuses that: issue it again (docs/production.md, 'Certificates')"
        )
    return f"the server's certificate is not trusted: check {authorities}"


def _is_about_ours(error: ssl.SSLError) -> bool:
    reason = error.reason or ""
    return "ALERT" in reason and any(word in reason for word in _ALERTS)
