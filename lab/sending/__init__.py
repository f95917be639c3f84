"""The parts of ``crossfade dev`` that send messages, over HTTP with the Python client."""
