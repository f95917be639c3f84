"""The container files on an engine; ``python -m tests.containers`` is ``make containers``."""
