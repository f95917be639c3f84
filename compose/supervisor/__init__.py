"""Several processes of the service under one supervisor, on one port."""
