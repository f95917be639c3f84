"""The payload store compared with rows and logs: objects that nothing needs, and missing ones."""
