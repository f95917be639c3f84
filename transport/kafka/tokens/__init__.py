"""Tokens for listeners that demand SASL/OAUTHBEARER: providers, and how long a token is used."""
