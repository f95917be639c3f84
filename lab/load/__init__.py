"""The load generator: connections, arrivals, and the schedule of requests.

A *workload* makes the bytes of each request and takes its answer; the generator decides when the
request is sent. ``lab.load.generator`` spreads the requests of one workload over many
connections, at so little cost that it does not distort a measurement. ``lab.load.turns`` yields
the times at which one sender sends, for workloads that wait for an answer before they go on. In
both, latency counts from the time a request was due, so a stalled server can't hide its delay.
"""
