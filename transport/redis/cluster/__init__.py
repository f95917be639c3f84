"""A cluster: which server has which slot, followed as that changes; one client of all servers."""
