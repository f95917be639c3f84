"""Benchmarks of the whole path, from POST to committed row, with workers and default placement.

``python -m lab.bench.whole_path --help`` measures one load quickly, for example this checkout
against another; ``make bench`` measures all of them.
"""
