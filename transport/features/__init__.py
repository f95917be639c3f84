"""Decorators of a log, and what only some logs have, found behind them."""
