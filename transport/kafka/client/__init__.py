"""Patches of aiokafka: missing requests, slow paths, errors and log lines."""
