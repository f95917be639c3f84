"""Metrics as an operator meets them: alerts, dashboards, and a real Prometheus."""
