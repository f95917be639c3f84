"""The console's FastAPI routes: its page, its session, and its API."""
