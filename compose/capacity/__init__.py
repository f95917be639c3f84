"""The capacity model: computes cores, processes and memory from a rate of messages."""
