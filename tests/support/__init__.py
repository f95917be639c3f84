"""Helpers that the tests share. Real servers come from the fixtures in ``tests/conftest.py``."""
