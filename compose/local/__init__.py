"""Real servers as child processes of ours: for ``crossfade up``, the tests and the lab.

Each server listens on loopback only, keeps its data in a given folder, and stops when our process
ends, even by SIGKILL (``compose.local.guard``). The servers trust every client on loopback, as the
API does by default: they are for one person's machine, not for a deployment.
"""
