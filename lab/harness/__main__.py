"""``python -m lab.harness``: the load's own process, see ``load_process``."""

from __future__ import annotations

from lab.harness.load_process import serve
from lab.load.exact_loop import run_exactly

if __name__ == "__main__":
    run_exactly(serve())
