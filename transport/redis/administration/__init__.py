"""Administration of the log: open, describe, check rights and durability, remove."""
