#!/bin/bash
# install-peers.sh DIRECTORY: what `sgflow bench --peer` measures sgflow against: OVN as Debian has it, and Neutron as PyPI has
# it, in a virtual environment there. Quick when they are there.
set -euo pipefail
directory=$1

packages=(
  ovn-central ovn-host ovn-common  # ovn-northd, ovn-controller, ovn-nbctl
  conntrack                        # forked by Neutron's driver
  python3 python3-venv
)
"$(dirname "$0")/install-packages.sh" "${packages[@]}"

python=$directory/bin/python
if ! "$python" -c 'import neutron' 2>/dev/null; then
  python3 -m venv "$directory"
  "$python" -m pip install -q neutron
fi
