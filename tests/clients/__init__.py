"""The clients of the API, against a running service."""
