"""The specification in TLA+, its checker, and histories replayed against it: docs/proof.md."""
