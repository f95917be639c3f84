"""The load generator: a separate process, cheap enough not to distort the figures.

``python -m lab.bench.load`` reads one ``Job`` as JSON from standard
input and writes one ``Result`` as JSON to standard output.
"""
