"""The health of all parts in sentences: the fact, its cause, and the remedy."""
