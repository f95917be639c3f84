"""Persistence settings, from the environment. Names are the deployment guide's where it has one."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from persistence.database_url import check_url, has_password, with_password
from transport.environment_settings import EnvironmentSettings
from transport.secret_file import SecretFile, must_hold_secret

__all__ = ["PersistenceSettings"]


class PersistenceSettings(EnvironmentSettings):
    """Settings of the database and of the workers' batches."""

    database_url: SecretStr = SecretStr("postgresql://postgres@localhost:5432/crossfade")
    """``postgresql://user:password@host:port/name``, with options such as ``sslmode`` as libpq has
    them; one that is not supported is refused. Name a primary and its standbys as
    ``one:5432,two:5432``: the one that takes writes is used."""
    database_direct_url: SecretStr | None = None
    """The same servers without their pooler, if ``DATABASE_URL`` leads through one in transaction
    mode. Used for migrations of the schema, locks that a session holds, and commands that read all
    rows."""
    database_read_url: SecretStr | None = None
    """A standby for pages of conversations and the console's search, which lag as it does. Every
    decision about a message uses ``DATABASE_URL``."""
    database_password_file: str | None = None
    """A file with the password for the three of them, which then name none. It is read for each new
    connection, so it may be replaced at any time."""
    database_pool_size: Annotated[int, Field(ge=6, le=512)] = 10
    """Connections this process may open. More than a few per core of the server gain nothing. Work
    that one process does for all holds up to four, a redrive among it."""
    database_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """A statement that takes longer counts as an outage, and is tried again with fewer rows."""
    rows_retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Rows older than so many days move from PostgreSQL to ``ROWS_ARCHIVE_URL``. Not set: none."""
    rows_archive_url: str | None = None
    """Where old rows go: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``
    or ``file:///folder``, with the credentials, the endpoint and the region of the payload store.
    Leave it set for as long as there are files: an erasure looks into them."""
    stream_max_retries: Annotated[int, Field(ge=1, le=100)] = 3
    """Attempts on one record that PostgreSQL refuses, before it becomes a dead letter."""
    stream_batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """The most records one statement inserts. Fewer are taken when fewer wait."""
    stream_poll_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 5000
    """The longest idle wait, and the longest between two attempts during an outage."""
    enable_stream_consumers: bool = True
    """``false``: accept and enqueue, consume nothing."""

    @field_validator("rows_archive_url")
    @classmethod
    def _is_a_store(cls, value: str | None) -> str | None:
        if value and not value.startswith(("s3://", "gs://", "az://", "file:///")):
            raise ValueError("must start with s3://, gs://, az:// or file:///")
        return value

    @model_validator(mode="after")
    def _rows_go_somewhere(self) -> Self:
        if self.rows_retention_days and not self.rows_archive_url:
            raise ValueError(
                f"ROWS_RETENTION_DAYS={self.rows_retention_days} needs ROWS_ARCHIVE_URL, such as "
                "s3://bucket/rows: what is not archived is not deleted"
            )
        return self

    @property
    def direct_url(self) -> str:
        """The address of the server itself, with its password.

        Raises:
            ConfigurationError: the file with the password can't be read.
        """
        url = (self.database_direct_url or self.database_url).get_secret_value()
        return url if self.password is None else with_password(url, self.password.read())

    @property
    def password(self) -> SecretFile | None:
        """The file with the password; ``None`` if the addresses have it."""
        path = self.database_password_file
        return SecretFile(path, "DATABASE_PASSWORD_FILE") if path else None

    @model_validator(mode="after")
    def _password_is_there(self) -> Self:
        urls = (self.database_url, self.database_direct_url, self.database_read_url)
        if self.database_password_file:
            must_hold_secret(
                self.database_password_file,
                "DATABASE_PASSWORD_FILE",
                is_given=any(url and has_password(url.get_secret_value()) for url in urls),
            )
        return self

    @field_validator("database_url", "database_direct_url", "database_read_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value and value.get_secret_value():
            check_url(value.get_secret_value())
        return value
