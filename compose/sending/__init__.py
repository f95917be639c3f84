"""The parts of commands that send messages, over HTTP with the Python client."""
