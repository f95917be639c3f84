"""The TLA+ specification, its checker TLC, and the replay of histories (docs/proof.md)."""
