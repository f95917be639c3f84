"""The soak: hours of load at a steady rate, with faults, to find losses and leaks.

``crossfade soak`` runs it. It uses the rehearsal's stage, faults and timeline, and the harness's
load and checker. It observes processes from outside: by the system's figures and by metrics.
"""
