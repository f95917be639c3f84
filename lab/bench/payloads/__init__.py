"""Benchmarks of messages whose content is in a payload store."""
