"""The measured figures, one per file, each with its baseline."""
