"""The HTTP/1.1 server: parser, connections, and limits on syntax, sizes and slow clients."""
