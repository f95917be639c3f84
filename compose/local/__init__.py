"""Real servers as child processes of ours: for ``crossfade up``, the tests and the benchmarks.

Each listens on loopback only, keeps its data in a folder it is given, and is stopped when our
process ends, however it ends (``compose.local.guard``). They trust every client on loopback,
as the API itself does by default: they are for one person's machine, not for a deployment.
"""
