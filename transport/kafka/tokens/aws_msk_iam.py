"""Tokens for Amazon MSK with IAM access control: connect requests signed with AWS credentials.

The credentials come from the usual chain (environment, profile, web identity, container, instance).
Needs the extra ``msk``.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from http import HTTPStatus
from typing import Any

from transport.errors import ConfigurationError, TransportUnavailable
from transport.settings import TransportSettings
from transport.tokens import Token

__all__ = ["SignedByAws"]

_SIGNER = "aws_msk_iam_sasl_signer.MSKAuthTokenProvider"
_REMEDY = "give the process a role, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_LATER = ("Throttling", "ThrottlingException", "IDPCommunicationError")


class SignedByAws:
    """A ``TokenProvider`` that signs for the region KAFKA_AWS_REGION.

    Raises:
        ConfigurationError: the region is not set, or the extra is not installed.
    """

    def __init__(self, settings: TransportSettings) -> None:
        if not settings.kafka_aws_region:
            raise ConfigurationError("KAFKA_OAUTH_PROVIDER=aws-msk-iam needs KAFKA_AWS_REGION")
        try:
            self._signer = importlib.import_module(_SIGNER)
            self._errors = importlib.import_module("botocore.exceptions")
        except ImportError as error:
            raise ConfigurationError(
                "KAFKA_OAUTH_PROVIDER=aws-msk-iam needs a package that is not "
                f'installed ({error}): pip install "crossfade[msk]"'
            ) from error
        self._region = settings.kafka_aws_region

    async def token(self) -> Token:
        """See ``TokenProvider``."""
        # In a thread, since some credentials are fetched over HTTP.
        try:
            value, ends_ms = await asyncio.to_thread(self._signer.generate_auth_token, self._region)
        except AttributeError as error:  # the signer fails so if the chain found no credentials
            raise ConfigurationError(f"no AWS credentials were found: {_REMEDY}") from error
        except self._errors.ClientError as error:
            raise _refused_by_sts(error) from error
        except (
            self._errors.EndpointConnectionError,
            self._errors.HTTPClientError,
            self._errors.MetadataRetrievalError,
        ) as error:
            raise TransportUnavailable(f"no AWS credentials now ({error})") from error
        except (self._errors.BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"no AWS credentials to sign with ({error}): {_REMEDY}"
            ) from error
        return Token(value, ends_ms / 1000 - time.time())


def _refused_by_sts(error: Any) -> ConfigurationError | TransportUnavailable:
    """Translate an error answer of AWS STS, which issues the credentials of roles."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _LATER:
        return TransportUnavailable(f"no AWS credentials now ({error})")
    return ConfigurationError(f"AWS gives no credentials ({error}): check the role and its trust")
