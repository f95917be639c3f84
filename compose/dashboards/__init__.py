"""The Grafana dashboards, as data; ``python -m compose.dashboards`` writes their JSON.

A panel is a title, a sentence that says what is normal, a unit and its queries. What every panel
needs besides (places, data source, defaults) is in ``compose.dashboards.panels``.
"""
