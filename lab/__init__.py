"""Everything around the service that is not the service: benchmarks, and what judges it."""
