"""Tokens for Kafka's SASL/OAUTHBEARER: what a provider of your own returns, and how it is found.

Register it under the entry point ``crossfade.kafka_token_providers``; docs/managed_kafka.md has an
example.
"""

from __future__ import annotations

from transport.tokens import Token, TokenProvider

__all__ = ["Token", "TokenProvider"]
