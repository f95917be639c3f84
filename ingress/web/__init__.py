"""HTTP apart from JSON bodies: API keys, host names, browsers, headers, forms, compression.

Nothing here uses the log or the database.
"""
