"""The Grafana dashboards, as data; ``python -m compose.dashboards`` writes their JSON.

A panel has a title, a sentence about its normal state, a unit and its queries.
``compose.dashboards.panels`` adds positions, data source and defaults.
"""
