"""Benchmarks: each figure with a baseline from the same run (``make bench``)."""
