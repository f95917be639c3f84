"""Security of a local Kafka's client listener: none, a password, TLS, or both."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import NamedTuple

from compose.local.kafka_jars import Java
from compose.local.server import ServerError

__all__ = ["Security"]

_LOGIN = "org.apache.kafka.common.security"


class Security(NamedTuple):
    """The security of one listener. ``mechanism`` is used if ``protocol`` begins with ``SASL``."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str = "crossfade"
    password: str = ""

    @classmethod
    def with_password(cls, protocol: str, mechanism: str = "PLAIN") -> Security:
        """Return a configuration with a new random password."""
        return cls(protocol, mechanism, password=secrets.token_urlsafe(16))

    @property
    def _sasl(self) -> bool:
        return self.protocol.startswith("SASL")

    def format_arguments(self) -> list[str]:
        """Return arguments for the storage tool, which stores SCRAM users in the metadata log."""
        if not self._sasl or not self.mechanism.startswith("SCRAM"):
            return []
        who = f"{self.mechanism}=[name={self.username},password={self.password}]"
        return ["--add-scram", who]

    def broker(self, folder: Path, java: Java) -> dict[str, str]:
        """Return the broker's properties; make its certificate in ``folder`` if TLS needs it."""
        properties: dict[str, str] = {}
        if self._sasl:
            properties |= self._sasl_properties()
        if self.protocol.endswith("SSL"):
            properties |= self._tls_properties(folder, java)
        return properties

    def authority(self, folder: Path) -> Path:
        """Return the PEM file of the authority that clients have to trust; see ``broker``."""
        return folder / "authority.pem"

    def _sasl_properties(self) -> dict[str, str]:
        listener = f"listener.name.client.{self.mechanism.lower()}.sasl.jaas.config"
        if self.mechanism == "PLAIN":
            user = f'user_{self.username}="{self.password}"'
            login = f"{_LOGIN}.plain.PlainLoginModule required {user};"
        elif self.mechanism == "OAUTHBEARER":
            login = f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;"
        else:
            login = f"{_LOGIN}.scram.ScramLoginModule required;"
        return {"sasl.enabled.mechanisms": self.mechanism, listener: login}

    def _tls_properties(self, folder: Path, java: Java) -> dict[str, str]:
        store, secret = folder / "server.p12", folder / "server.p12.password"
        if not store.exists():
            secret.write_text(secrets.token_hex(16))
            secret.chmod(0o600)
            keystore: list[str | Path] = [
                "-keystore", store, "-storetype", "PKCS12", "-storepass:file", secret,
                "-alias", "server",
            ]  # fmt: skip
            _keytool(
                java, "-genkeypair", *keystore, "-keyalg", "EC", "-groupname", "secp256r1",
                "-validity", "3650", "-dname", "CN=localhost",
                "-ext", "san=dns:localhost,ip:127.0.0.1", "-ext", "bc:c",
            )  # fmt: skip
            _keytool(java, "-exportcert", "-rfc", *keystore, "-file", self.authority(folder))
        return {
            "listener.name.client.ssl.keystore.type": "PKCS12",
            "listener.name.client.ssl.keystore.location": str(store),
            "listener.name.client.ssl.keystore.password": secret.read_text(),
        }


def _keytool(java: Java, *arguments: str | Path) -> None:
    quick = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")  # half the CPU time
    result = subprocess.run(
        [java.tool("keytool"), *quick, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if result.returncode != 0:
        raise ServerError(f"keytool failed: {(result.stdout + result.stderr).strip()}")
