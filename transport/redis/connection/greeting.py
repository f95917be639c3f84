"""The first commands on each connection to Redis."""

from __future__ import annotations

import msgspec

from transport.errors import ConfigurationError, TransportUnavailable
from transport.secret_file import SecretFile

__all__ = ["Greeting"]


class Greeting(msgspec.Struct, frozen=True):
    """Who we are (``AUTH``), and the database (``SELECT``); a refusal closes the connection."""

    username: str | None = None
    password: str | SecretFile | None = None
    database: int = 0

    def commands(self) -> list[tuple[str | int, ...]]:
        """Return the commands, with the password that the file has now.

        Raises:
            TransportUnavailable: the file can't be read. It may be there in a moment.
        """
        try:
            password = (
                self.password.read() if isinstance(self.password, SecretFile) else self.password
            )
        except ConfigurationError as error:
            raise TransportUnavailable(str(error)) from error
        commands: list[tuple[str | int, ...]] = []
        if self.username:  # also without a password: a user may be set to nopass
            commands.append(("AUTH", self.username, password or ""))
        elif password is not None:
            commands.append(("AUTH", password))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands
