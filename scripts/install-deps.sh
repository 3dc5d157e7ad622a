#!/bin/bash
# Installs the Debian packages that sgflow is built, shown and tested with.
set -euo pipefail

packages=(
  gcc libc6-dev                             # the linker, and the C parts of the TLS library
  openvswitch-switch openvswitch-common     # ovsdb-server, ovs-vswitchd, ovs-vsctl, ovs-ofctl
  iproute2 ethtool iputils-ping util-linux  # namespaces as VMs
  iptables ipset conntrack nftables         # what the hybrid drivers write
  tcpdump                                   # to look at it all
  chromium chromium-driver fonts-liberation # the web page, as people see it
)
exec "$(dirname "$0")/install-packages.sh" "${packages[@]}"
