"""What must be on the machine: Debian packages, and a virtual environment with Neutron, kept under
`target/neutron`."""

from pathlib import Path

from harness.shell import HarnessError, run

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
    python = venv / "bin/python"
    if not python.exists():
        cache.mkdir(parents=True, exist_ok=True)
        run("/usr/bin/python3", "-m", "venv", str(venv))
    if _imports(python, "neutron", "pymysql"):
        return venv
    # PyMySQL is how Neutron's database connection is spelled below; Neutron itself does not ask for it.
    run(
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        f"neutron=={NEUTRON_VERSION}",
        "PyMySQL",
        timeout_s=_INSTALL_TIMEOUT_S,
    )
    return venv


def install_driver_package(venv: Path, package: Path) -> None:
    """Installs our driver package from the repository, as it is now: its entry point is what Neutron looks
    for."""
    if not (package / "pyproject.toml").exists():
        raise HarnessError(f"{package}: the driver package is not there")
    pip = (
        str(venv / "bin/python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--force-reinstall",
        str(package),
    )
    run(*pip, timeout_s=_INSTALL_TIMEOUT_S)


def _imports(python: Path, *modules: str) -> bool:
    try:
        run(str(python), "-c", f"import {', '.join(modules)}")
    except HarnessError:
        return False
    return True
