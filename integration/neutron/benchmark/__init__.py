"""What a firewall driver costs: several in turn under the agent's own code, on a real Open vSwitch."""
