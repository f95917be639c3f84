"""HTTP/1.1 on the wire: what a stranger may send, how much of it, and how slowly."""
