"""The hot path of ``POST /api/messages``: from a request's bytes to its acknowledgement.

It appends to a log and asks PostgreSQL for rows. It does not depend on FastAPI's routes.
"""
