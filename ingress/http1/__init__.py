"""HTTP/1.1 on the wire, with limits on a client's syntax, sizes and slowness."""
