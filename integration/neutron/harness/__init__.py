"""A real Neutron on one machine, and checks of a firewall driver with packets."""
