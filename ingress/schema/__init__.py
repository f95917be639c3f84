"""The bodies of requests and answers: fields, limits, validation, problem documents.

Pure functions and structs. They touch no log, no database and no socket.
"""
