"""Decorators of a log, and optional features of a log, which are found through its decorators."""
