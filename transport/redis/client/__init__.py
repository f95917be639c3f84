"""The client of one process: a pool of connections, pipelines, and our functions."""
