"""Settings of the payload store, from the environment."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from transport.environment_settings import EnvironmentSettings
from transport.message.payload import MOST_BYTES

__all__ = ["PayloadSettings", "known_store"]

_STORES = ("s3://", "gs://", "az://", "file://", "memory://")


def known_store(value: str) -> str:
    """Return the address of a store, without a slash at its end.

    Raises:
        ValueError: it is no store's address; the text says what it must be.
    """
    parts = urlsplit(value)
    if not value.startswith(_STORES):
        raise ValueError("must start with s3://, gs://, az:// or file:///")
    if parts.scheme == "file" and (parts.netloc or len(parts.path) < len("/x")):
        raise ValueError("must name a folder by its whole path, as file:///var/lib/payloads")
    if parts.scheme in {"s3", "gs", "az"} and not parts.netloc:
        raise ValueError(f"must name a bucket, as {parts.scheme}://bucket/prefix")
    cloud = parts.scheme != "file"  # a secret may have "/", and so end behind the netloc
    if parts.query or parts.fragment or (cloud and ("@" in value or ":" in parts.netloc)):
        raise ValueError(
            "take the key out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or your "
            "provider's own variables"
        )
    return value.rstrip("/") if parts.path != "/" else value


class PayloadSettings(EnvironmentSettings):
    """Where large content is kept, and what counts as large."""

    payload_store: str | None = None
    """Where content above ``PAYLOAD_THRESHOLD_BYTES`` is kept: ``s3://bucket/prefix``,
    ``gs://bucket/prefix``, ``az://container/prefix`` or ``file:///folder``. Credentials come from
    the provider's own variables (``AWS_ACCESS_KEY_ID``, ...) or the machine's role. Not set: all
    content is in the log and in the rows. Every process needs the same value."""
    payload_fallback_store: str | None = None
    """A second store, which is read if ``PAYLOAD_STORE`` lacks an object, and never written. Set it
    while payloads are moved from one store to the other."""
    payload_threshold_bytes: Annotated[int, Field(ge=0, le=1024 * 1024)] = 2048
    """Text of more UTF-8 bytes than this goes to the store. Binary content always does."""
    payload_row_bytes: Annotated[int, Field(ge=0, le=16 * 1024 * 1024)] = 32_768
    """Workers copy text of up to so many bytes into its row. For longer text and binary content,
    the row has only the key."""
    ingress_max_payload_bytes: Annotated[int, Field(ge=1, le=MOST_BYTES)] = 100 * 1024 * 1024
    """The most bytes of content in one ``multipart/form-data`` message."""
    payload_endpoint_url: str | None = None
    """The address of a store that speaks S3 and is not Amazon's, such as Cloudflare R2."""
    payload_region: str | None = None
    """The region of the bucket; ``AWS_REGION`` where it is not set."""
    aws_access_key_id: SecretStr | None = None
    """The key for ``s3://``; with ``AWS_SECRET_ACCESS_KEY``. Not set: the machine's role."""
    aws_secret_access_key: SecretStr | None = None
    """The secret of ``AWS_ACCESS_KEY_ID``."""
    aws_session_token: SecretStr | None = None
    """The token that belongs to a temporary key."""
    payload_sse: str | None = None
    """Encryption that S3 is asked for: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``. Not set: the
    bucket's default."""
    payload_sse_kms_key_id: str | None = None
    """The key of KMS, for ``PAYLOAD_SSE=aws:kms``."""
    payload_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 5_000
    """How long the store may be silent, and how long a small object may take. After that, a large
    POST gets 503, and workers wait as in an outage."""
    payload_redirect: bool = False
    """``true``: ``GET /api/messages/{id}/content`` answers 307 with a signed URL of the store,
    where the store can sign one. ``false``: it streams the content."""

    @property
    def stores(self) -> list[str]:
        """The addresses of the stores that are read, first the one that is written."""
        return [store for store in (self.payload_store, self.payload_fallback_store) if store]

    @field_validator("payload_store", "payload_fallback_store")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        return known_store(value) if value else None  # empty: `crossfade up` unsets it so

    @field_validator("payload_endpoint_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with https:// or http://")
        parts = urlsplit(value or "")
        if "@" in (value or "") or parts.query or parts.fragment:
            raise ValueError(
                "take the key out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return value

    @field_validator("payload_sse")
    @classmethod
    def _is_encryption(cls, value: str | None) -> str | None:
        if value not in {None, "AES256", "aws:kms", "aws:kms:dsse"}:
            raise ValueError("give one of AES256, aws:kms, aws:kms:dsse")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.payload_fallback_store is not None:
            fallback = f"PAYLOAD_FALLBACK_STORE={self.payload_fallback_store}"
            if self.payload_store is None:
                raise ValueError(f"{fallback} needs PAYLOAD_STORE, the store that is written")
            if self.payload_store == self.payload_fallback_store:
                raise ValueError(f"{fallback} is PAYLOAD_STORE; unset it, or name another store")
        stores = self.stores
        only_s3 = {
            "PAYLOAD_ENDPOINT_URL": self.payload_endpoint_url,
            "PAYLOAD_REGION": self.payload_region,
            "PAYLOAD_SSE": self.payload_sse,
        }
        for name, value in only_s3.items():
            if value is not None and stores and not any(at.startswith("s3:") for at in stores):
                raise ValueError(
                    f"{name}={value} is for s3:// stores; unset it for "
                    f"PAYLOAD_STORE={self.payload_store}"
                )
        if self.payload_sse_kms_key_id and not (self.payload_sse or "").startswith("aws:kms"):
            raise ValueError(
                f"PAYLOAD_SSE_KMS_KEY_ID={self.payload_sse_kms_key_id} needs PAYLOAD_SSE=aws:kms"
            )
        return self
