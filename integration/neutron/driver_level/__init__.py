"""A firewall driver called as Neutron's agent calls it, without a server, a bridge a scenario, and packets."""
