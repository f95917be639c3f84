"""One connection to a server: locate the server, exchange commands, translate errors."""
