"""The console in a real browser, over running services."""
