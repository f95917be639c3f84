"""Redis Cluster: the map of slots to servers, kept up to date, and one client for all servers."""
