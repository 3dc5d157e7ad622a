#!/bin/bash
# neutron-venv.sh VERSION DIRECTORY: a virtual environment with that version of Neutron and the sgflow driver; quick when it is there.
set -euo pipefail
version=$1 directory=$2
package=$(dirname "$0")/../integration/neutron/sgflow_neutron

# What old releases import is gone from the newest versions of what they need, and they name no upper bound.
case $version in
  22.*) bounds=('neutron-lib<3.5' 'SQLAlchemy<2' 'pyroute2<0.8') ;;
  23.* | 24.* | 25.*) bounds=('pyroute2<0.8') ;;
  *) bounds=() ;;
esac

# PyMySQL is how a Neutron that is set up for tests reaches its database; Neutron itself does not ask for it.
if [ ! -e "$directory/complete" ]; then
  rm -rf "$directory"
  /usr/bin/python3 -m venv "$directory"
  nice -n 19 "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "neutron==$version" PyMySQL "${bounds[@]}"
  touch "$directory/complete"
fi
# From a copy, so that the build leaves nothing beside the sources.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$package" "$copy/"
nice -n 19 "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$copy/sgflow_neutron"
