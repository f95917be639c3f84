"""The row of each process: processor, memory, event loop, files."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep

__all__ = ["PROCESSES"]

PROCESSES = DashboardRow(
    "Each process",
    (
        Panel(
            "CPU",
            "Cores used by each process. One Python process uses at most about one.",
            "short",
            (Query("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            (Query("process_resident_memory_bytes{@}", "{{instance}}"),),
        ),
        Panel(
            "Event Loop Delay",
            "How late the event loop ran a timer: the worst of the last 10 seconds.",
            "s",
            (Query("process_event_loop_delay_seconds{@}", "{{instance}}"),),
            steps=(ThresholdStep(0.1, "yellow"), ThresholdStep(1, "red")),
        ),
        Panel(
            "Open Files",
            "Open file descriptors of each process, sockets among them.",
            "short",
            (Query("process_open_fds{@}", "{{instance}}"),),
        ),
        Panel(
            "Up Since",
            "When each process started.",
            "dateTimeFromNow",
            (Query("1000 * process_start_time_seconds{@}", "{{instance}}"),),
            "stat",
            bounds=(None, None),
        ),
        Panel(
            "Version",
            "How many processes run which version. Two of them: a deployment is under way.",
            "short",
            (Query("count by (version) (crossfade_build_info{@})", "{{version}}"),),
            "stat",
        ),
    ),
)
