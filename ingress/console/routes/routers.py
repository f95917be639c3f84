"""The console's routers, in the order in which FastAPI tries them."""

from __future__ import annotations

from fastapi import APIRouter

from ingress.console.routes import (
    actions,
    find,
    letter_groups,
    log,
    migration,
    pages,
    produce,
    session,
    status,
    tail,
    timeline,
)
from ingress.console.routes.state import ConsoleState

__all__ = ["console_routers"]


def console_routers(console: ConsoleState) -> list[APIRouter]:
    """Return the routers. Their routes read the console from the application's state."""
    parts = [
        session,
        find,  # before the routes of single messages
        log,
        tail,
        produce,
        status,
        timeline,
        letter_groups,
        actions,
        pages,
    ]
    if console.migration is not None:
        parts.append(migration)
    return [part.router for part in parts]
