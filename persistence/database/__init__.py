"""Connections to PostgreSQL: which server, a pool, errors translated, outages waited out.

Everything that runs a statement uses this room. It knows no table.
"""
