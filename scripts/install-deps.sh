#!/bin/bash
# Installs the Debian packages that sgflow is built, shown and tested with, or those that are named; quick when they are there.
# No daemon of them is started: sgflow runs a private Open vSwitch, and the machine's own, if any, stays as it is.
set -euo pipefail

packages=("$@")
[ $# -gt 0 ] || packages=(
  gcc libc6-dev                             # the linker, and the C parts of the TLS library
  openvswitch-switch openvswitch-common     # ovsdb-server, ovs-vswitchd, ovs-vsctl, ovs-ofctl
  iproute2 ethtool iputils-ping util-linux  # namespaces as VMs
  iptables ipset conntrack                  # what the hybrid drivers write
  tcpdump                                   # to look at it all
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "missing packages: ${missing[*]}: install them as root" >&2; exit 1; }
  as_root=(sudo)
fi

# Debian starts a service when its package is installed, unless this file says no (invoke-rc.d(8)). One that is there
# already is the administrator's and stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
