"""The soak: a load at a steady rate, with faults, for hours; is anything lost, does anything grow?

``crossfade soak`` runs it. It stands on the rehearsal's stage, faults and timeline and on the
harness's load and checker. It knows what a process is to the system, and nothing of its insides.
"""
