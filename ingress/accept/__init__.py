"""From a request's bytes to its acknowledgement: the measured path of a POST.

It appends to a log and asks PostgreSQL for rows. It knows no route that FastAPI serves.
"""
