"""Commands that send messages: by the Python client, over HTTP, as an application does."""
