"""The dashboard "Phase 3: Durable Delivery - Queue Monitoring": the guide's six panels, and more.

Every process reports the lag of every partition, so panels show the largest reported value. Counts
of each process's own work, such as rates, are summed.
"""

from __future__ import annotations

from compose.dashboards.panels import Dashboard
from compose.dashboards.queue.dead_letters import DEAD_LETTERS
from compose.dashboards.queue.guide import GUIDE
from compose.dashboards.queue.health import HEALTH
from compose.dashboards.queue.objectives import OBJECTIVES
from compose.dashboards.queue.processes import PROCESSES
from compose.dashboards.queue.producers import PRODUCERS
from compose.dashboards.queue.workers import WORKERS

__all__ = ["QUEUE"]

QUEUE = Dashboard(
    "crossfade-queue",
    "Phase 3: Durable Delivery - Queue Monitoring",
    "Is every accepted message persisted, soon, once and in order? The deployment guide's six "
    "panels first.",
    (GUIDE, HEALTH, PRODUCERS, WORKERS, DEAD_LETTERS, OBJECTIVES, PROCESSES),
)
