# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""firewall_driver = sgflow: hands the security groups of neutron-openvswitch-agent to the sgflow daemon."""
