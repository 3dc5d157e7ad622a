"""A clean Debian 12, made once and kept; each run has a copy of its own."""

import hashlib
import shutil
from pathlib import Path

from package_check.shell import run

# What a compute host has besides sgflow: systemd, Open vSwitch and nftables; man-db to read man pages with.
_PACKAGES = (
    "bash-completion",
    "dbus",
    "iproute2",
    "man-db",
    "nftables",
    "openvswitch-switch",
    "systemd",
    "systemd-sysv",
)
_SUITE = "bookworm"


def make_root(kept: Path, copy: Path) -> None:
    """Makes `copy` a clean system, of the original in `kept`, which is made with this machine's mirror."""
    name = hashlib.sha256(" ".join((_SUITE, *_PACKAGES)).encode()).hexdigest()[:12]
    original = kept / f"root-{name}"
    if not original.exists():
        unfinished = kept / f"root-{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        kept.mkdir(parents=True, exist_ok=True)
        packages = ",".join(_PACKAGES)
        run(
            "debootstrap",
            "--variant=minbase",
            f"--include={packages}",
            _SUITE,
            str(unfinished),
            _mirror(),
            timeout_s=1200,
        )
        unfinished.rename(original)
    run("cp", "-a", "--reflink=auto", str(original), str(copy))


def _mirror() -> str:
    """Where apt of this machine has its packages from."""
    sites = run(
        "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Codename: {_SUITE}"
    )
    for site in sites.splitlines():
        return site
    raise LookupError(f"apt of this machine knows no mirror of {_SUITE}")
