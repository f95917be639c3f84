"""How large and how slow one request and one connection may be."""

from __future__ import annotations

import msgspec

from ingress.settings import IngressSettings

__all__ = ["Bounds"]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one listening port; see the settings of the same names."""

    head_bytes: int = 64 * 1024
    target_bytes: int = 8 * 1024
    headers: int = 128

    @classmethod
    def of(cls, settings: IngressSettings) -> Bounds:
        """Return the limits that the settings give."""
        return cls(
            head_bytes=settings.ingress_max_head_bytes,
            target_bytes=settings.ingress_max_target_bytes,
            headers=settings.ingress_max_headers,
        )
