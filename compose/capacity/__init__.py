"""From a rate of messages to cores, processes and memory."""
