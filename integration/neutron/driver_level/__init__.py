"""A firewall driver called as neutron-openvswitch-agent calls it, without a server, a bridge a scenario, and packets."""
