"""The payload store against rows and logs: what is there for nothing, and what is not there."""
