"""Losses of a log: a topic that was made anew, a tail that was cut off; how each is noticed."""
