"""All files of a system, to be compared with what they were before."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

# What every package that comes and goes leaves behind, and what runs beside it: the records of dpkg and apt,
# backups of the databases of users, caches of ld.so and man-db, logs, the state of systemd and Open vSwitch.
_NOT_OURS = (
    "dev",
    "proc",
    "sys",
    "tmp",
    "run/systemd",
    "run/udev",
    "run/dbus",
    "run/log",
    "run/lock",
    "run/netns",
    "run/openvswitch",
    "var/lib/dpkg",
    "var/lib/apt",
    "var/cache/apt",
    "var/cache/man",
    "var/cache/ldconfig",
    "var/cache/debconf",
    "var/log",
    "var/lib/systemd",
    "etc/group-",
    "etc/gshadow-",
    "etc/ld.so.cache",
    "etc/openvswitch",
    "var/lib/openvswitch",
)


def traces(root: Path) -> dict[str, str]:
    """What is at each path: kind, mode, owner, and of a file what is in it."""
    return {str(path.relative_to(root)): _described(path) for path in _all(root, root)}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Paths that came, went or are not what they were."""
    return [
        f"{path}: {before.get(path, 'not there')} before, {after.get(path, 'not there')} after"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _all(root: Path, directory: Path) -> Iterator[Path]:
    for entry in os.scandir(directory):
        path = Path(entry.path)
        if str(path.relative_to(root)) in _NOT_OURS:
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _all(root, path)


def _described(path: Path) -> str:
    status = path.lstat()
    kind = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{kind} -> {os.readlink(path)}"
    if stat.S_ISREG(status.st_mode):
        return f"{kind} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return kind
