"""The OpenAPI documents: one for producers and operators, one for the console's own routes.

They combine FastAPI's document with the two routes of the hot path, which FastAPI does not serve.
Their schemas keep to forms that code generators of many languages understand.
``tests/ingress/test_openapi.py`` compares the documents with the service's answers, and
``tests/generated_clients`` tests generated clients.
"""

from __future__ import annotations

from ingress.openapi.documents import CONSOLE_PATH, PATH, Documents

__all__ = ["CONSOLE_PATH", "PATH", "Documents"]
