"""One running process: its logs, workers, API, heartbeat and orderly stop.

Commands start it. It may use every layer below.
"""
