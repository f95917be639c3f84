"""Records that a server lost: noticed, and appended again by the processes that have them."""
