"""The console's routes, with FastAPI: its page, its session, and its API."""
