"""Compare the payload store with rows and logs: unneeded objects, and missing ones."""
