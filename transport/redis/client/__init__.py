"""The calls of a process: connections kept in a pool, pipelines, and our functions."""
