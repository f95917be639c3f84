"""The way of an envelope into its stream: one call, and an outcome for each."""
