"""Tokens for SASL/OAUTHBEARER: the providers, and the reuse of a token."""
