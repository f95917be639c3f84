"""The whole path, POST to committed row, as users have it: workers on, nothing placed by hand.

``python -m benchmarks.whole_path --help`` measures one thing quickly, for example this checkout
beside another; ``make bench`` measures them all.
"""
