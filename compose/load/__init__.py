"""The load generator: connections, arrivals, and the schedule of requests.

A *workload* says which bytes a request is and takes its answer; the generator decides when it is
sent. ``compose.load.generator`` spreads the requests of one workload over many connections and
costs too little to distort a measurement. ``compose.load.turns`` gives one sender after
another its moments, for workloads that wait for an answer before they go on. In both, a latency is
counted from the moment a request was due, and a stalled server delays no clock.
"""
