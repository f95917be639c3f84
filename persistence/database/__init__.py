"""Connections to PostgreSQL: which server, a pool, errors translated, outages waited out.

Everything that runs a statement uses it. It knows no table.
"""
