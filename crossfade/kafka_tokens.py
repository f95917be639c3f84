"""Types for a token provider of your own, for Kafka's SASL/OAUTHBEARER.

Register the provider under the entry point ``crossfade.kafka_token_providers``;
``docs/managed_kafka.md`` has an example.
"""

from __future__ import annotations

from transport.tokens import Token, TokenProvider

__all__ = ["Token", "TokenProvider"]
