"""Support for requests that aiokafka (0.14) lacks, in one version each."""

from __future__ import annotations

import uuid
from io import BytesIO
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct

__all__ = ["OneVersion", "Uuid"]


class Uuid(AbstractType):  # type: ignore[misc] # aiokafka is not typed
    """A field of 16 bytes, a type that aiokafka lacks."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        """Return the field as it is sent."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        """Read the field."""
        return uuid.UUID(bytes=data.read(16))


class OneVersion(Request[RequestStruct]):  # type: ignore[misc] # aiokafka is not typed
    """A request in the one version of ``question``; ``fields`` are in the schema's order."""

    API_KEY = -1  # a placeholder: each instance has its own

    def __init__(self, question: type[RequestStruct], *fields: Any) -> None:
        self.API_KEY = question.API_KEY
        self._question = question
        self._fields = fields

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Return the request for a broker that understands these versions.

        Raises:
            IncompatibleBrokerVersion: the broker does not support this version.
        """
        least, most = versions.get(self.API_KEY, (0, -1))
        version = self._question.API_VERSION
        if not least <= version <= most:
            raise IncompatibleBrokerVersion(
                f"version {version} of request {self.API_KEY}: the broker has {least} to {most}"
            )
        return self.build(self._question)

    def build(self, request_struct_class: type[RequestStruct]) -> RequestStruct:
        """Return the request to send."""
        return request_struct_class(*self._fields)
