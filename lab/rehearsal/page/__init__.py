"""The report as one HTML page: self-contained, for light and dark mode and narrow windows."""

from __future__ import annotations

from lab.rehearsal.page.render import render

__all__ = ["render"]
