"""The report as one HTML page: no outside address, no build, readable in light, dark and narrow."""

from __future__ import annotations

from compose.rehearsal.page.render import render

__all__ = ["render"]
