"""``python -m lab.bench.load``: one job from standard input, one result to standard output."""

from __future__ import annotations

import gc
import sys

import msgspec

from lab.bench.load.job import Job
from lab.bench.load.run import run
from lab.load.exact_loop import run_exactly

if __name__ == "__main__":
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    gc.disable()  # a run is short; a collection would show as latency of the service
    sys.stdout.buffer.write(msgspec.json.encode(run_exactly(run(job))))
