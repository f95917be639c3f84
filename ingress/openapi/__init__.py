"""The OpenAPI documents: one for producers and operators, one for the console's own routes.

They are made of FastAPI's document and of the two routes that FastAPI never sees, in schemas that
code generators of many languages read alike. ``tests/ingress/test_openapi.py`` holds them against
what is served, ``tests/generated_clients`` against what generators make of them.
"""

from __future__ import annotations

from ingress.openapi.documents import CONSOLE_PATH, PATH, Documents

__all__ = ["CONSOLE_PATH", "PATH", "Documents"]
