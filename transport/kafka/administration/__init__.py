"""Administration of the log: create and describe topics, check rights and durability, remove."""
