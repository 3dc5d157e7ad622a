"""What must be on the machine: Debian packages, and a virtual environment with Neutron, kept under
`target/neutron`."""

from pathlib import Path

from harness.shell import run

NEUTRON_VERSION = "29.0.0"

_PACKAGES = (
    "rabbitmq-server",
    "mariadb-server",
    "openvswitch-switch",
    "openvswitch-common",
    "python3-venv",
    "iproute2",
    "ethtool",
)
_INSTALL_TIMEOUT_S = 600


def install(repository: Path, cache: Path) -> Path:
    """Installs what is missing and gives the virtual environment. Quick when everything is there."""
    run(str(repository / "scripts/install-packages.sh"), *_PACKAGES, timeout_s=_INSTALL_TIMEOUT_S)
    venv = cache / f"venv-{NEUTRON_VERSION}"
    script = repository / "scripts/neutron-venv.sh"
    run(str(script), NEUTRON_VERSION, str(venv), timeout_s=_INSTALL_TIMEOUT_S)
    return venv
