"""``python -m benchmarks.load``: one job from standard input, one result to standard output."""

from __future__ import annotations

import gc
import sys

import msgspec

from benchmarks.load.job import Job
from benchmarks.load.run import run
from compose.load.exact_loop import run_exactly

if __name__ == "__main__":
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    gc.disable()  # a run is short; a collection would show as latency of the service
    sys.stdout.buffer.write(msgspec.json.encode(run_exactly(run(job))))
