"""HTTP beside the bodies: API keys, host names, browsers, headers, methods.

It touches no log and no database.
"""
