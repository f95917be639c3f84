"""The models of the order argument, checked by TLC (``make prove``)."""
