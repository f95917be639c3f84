"""``python -m compose.harness``: the load's own process, see ``load_process``."""

from __future__ import annotations

from compose.harness.load_process import serve
from compose.load.exact_loop import run_exactly

if __name__ == "__main__":
    run_exactly(serve())
