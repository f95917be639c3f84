"""The routes that FastAPI serves: all but ``POST /api/messages`` and the batch route."""
