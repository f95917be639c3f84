"""Open the store that ``PAYLOAD_STORE`` names. Nothing is connected before the first request."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from otel.metrics import Metrics
from persistence.payloads.folder import PayloadFolder
from persistence.payloads.mark import ARCHIVE_NAME, STORE_NAME
from persistence.payloads.moving import FALLBACK_SETTING, MovingStore
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore
from transport.errors import ConfigurationError

__all__ = ["folder_at", "open_archive", "open_at", "open_store"]

_RETRIES = 2
_FIRST_PAUSE = timedelta(milliseconds=50)
_LONGEST_PAUSE = timedelta(seconds=1)
_LONGEST = timedelta(hours=2)
"""The limit of a whole request. Callers bound each; the client's 30 s would cut a large body."""


def open_store(
    settings: PayloadSettings, metrics: Metrics, *, name: str = STORE_NAME
) -> PayloadStore | None:
    """Return the store, which also reads from ``PAYLOAD_FALLBACK_STORE`` if that is set.

    Returns:
        ``None`` if no payload store is used.

    Raises:
        ConfigurationError: the client can't use the settings.
    """
    address, fallback = settings.payload_store, settings.payload_fallback_store
    if address is None:
        return None
    if fallback is None:
        return open_at(address, settings, metrics, name=name)
    try:
        other = open_at(fallback, settings, metrics, name=name, mark=False)
    except ConfigurationError as error:
        text = str(error).replace("PAYLOAD_STORE=", f"{FALLBACK_SETTING}=")
        raise ConfigurationError(text) from error
    client, folder = _opened(address, settings, mark=False)
    return MovingStore(
        client,
        folder=folder,
        settings=settings,
        metrics=metrics,
        name=name,
        renewed=lambda: _opened(address, settings, mark=False)[0],
        fallback=other,
    )


def open_at(
    address: str,
    settings: PayloadSettings,
    metrics: Metrics,
    *,
    name: str = STORE_NAME,
    mark: bool = True,
) -> PayloadStore:
    """Return the store at ``address`` alone; its other settings are those of ``PAYLOAD_STORE``.

    Args:
        address: as ``PAYLOAD_STORE`` has one.
        settings: the others.
        metrics: of this process.
        name: the name under which PostgreSQL knows its identity.
        mark: ``False`` leaves an empty folder without a mark, so it can get another store's
            identity.

    Raises:
        ConfigurationError: the client can't use the settings.
    """
    changed = {"payload_store": address, "payload_fallback_store": None}
    settings = settings.model_copy(update=changed)
    client, folder = _opened(address, settings, mark=mark)
    return PayloadStore(
        client,
        folder=folder,
        settings=settings,
        metrics=metrics,
        name=name,
        renewed=lambda: _opened(address, settings, mark=False)[0],
    )


def folder_at(address: str) -> Path | None:
    """Return the folder of a ``file://`` address; ``None`` for another one."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _opened(
    address: str, settings: PayloadSettings, *, mark: bool
) -> tuple[Any, PayloadFolder | None]:
    path = folder_at(address)
    folder = PayloadFolder(path) if path is not None else None
    try:
        if folder is not None:
            folder.prepare(mark=mark)
        timeout = timedelta(milliseconds=settings.payload_timeout_ms)
        return _client(settings, address, folder, timeout), folder
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"PAYLOAD_STORE={address!r} can't be used: {reason}. Set what the provider's client "
            "needs, such as AWS_REGION or AZURE_STORAGE_ACCOUNT_NAME"
        ) from error


def open_archive(
    address: str | None, settings: PayloadSettings, metrics: Metrics
) -> PayloadStore | None:
    """Return the store of archived rows; ``None`` if there is none.

    Raises:
        ConfigurationError: the client can't use the settings.
    """
    if address is None:
        return None
    try:
        return open_at(address, settings, metrics, name=ARCHIVE_NAME)
    except ConfigurationError as error:
        text = str(error).replace("PAYLOAD_STORE=", "ROWS_ARCHIVE_URL=")
        raise ConfigurationError(text) from error


def _client(
    settings: PayloadSettings, address: str, folder: PayloadFolder | None, timeout: timedelta
) -> Any:
    from obstore import store  # noqa: PLC0415 - only where there is a store

    if folder is not None:
        return store.LocalStore(folder.root)
    if address.startswith("memory:"):
        return _memory(address)
    from_url: Any = store.from_url  # its overloads are by provider
    return from_url(
        address,
        config=_s3(settings) if address.startswith("s3:") else None,
        client_options={
            "allow_http": (settings.payload_endpoint_url or "").startswith("http://"),
            "connect_timeout": min(timeout, timedelta(seconds=5)),
            # The store bounds each call by its size. A limit of the client would begin when the
            # upload of a body begins, and cut off a large one on a slow line.
            "timeout": _LONGEST,
        },
        # By default the client retries for three minutes, and a POST would wait for it.
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timeout,
            "backoff": {"init_backoff": _FIRST_PAUSE, "max_backoff": _LONGEST_PAUSE, "base": 2},
        },
    )


@cache
def _memory(address: str) -> Any:  # noqa: ARG001 - one store for each
    """Return this process's in-memory store with the address, the same one each time."""
    from obstore.store import MemoryStore  # noqa: PLC0415

    return MemoryStore()


def _s3(settings: PayloadSettings) -> dict[str, str]:
    """Return the settings for S3 only; for unset ones, the client reads ``AWS_*``."""
    secrets = {
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": settings.aws_secret_access_key,
        "session_token": settings.aws_session_token,
    }
    given = {
        **{name: secret.get_secret_value() for name, secret in secrets.items() if secret},
        "endpoint": settings.payload_endpoint_url,
        "region": settings.payload_region,
        "server_side_encryption": settings.payload_sse,
        "sse_kms_key_id": settings.payload_sse_kms_key_id,
    }
    return {name: value for name, value in given.items() if value is not None}
