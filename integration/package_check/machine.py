"""A system that is booted by its own systemd, in namespaces and a control group of its own.

But for the kernel, nothing of this machine is to be seen there, and nothing of it is left when it is over.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from package_check.shell import Failed, run, wait_until

# What of /dev a system without devices has, as systemd-nspawn(1) gives it, with the numbers of Linux'
# devices.txt; the console leads nowhere. They are made anew: systemd gives the console another owner, and so
# would those of this machine have.
_DEVICES = "null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 console:1:3 net/tun:10:200"

# What a booted system mounts of the kernel that is not its own.
_MASKED = (
    "console-getty.service",
    "systemd-sysctl.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
)

# Run in the new namespaces. The settings of the kernel are this machine's, so that they are read-only but for
# those of the network, which each network namespace has of its own.
_BOOT = f"""
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t proc proc "$root/mnt"
mount --bind "$root/mnt/sys/net" "$root/proc/sys/net"
umount "$root/mnt"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
for device in {_DEVICES}; do
  mknod -m 666 "$root/dev/${{device%%:*}}" c $(echo "${{device#*:}}" | tr : ' ')
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=package-check PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \\
  systemd.unit=multi-user.target {" ".join("systemd.mask=" + unit for unit in _MASKED)}
"""

# A daemon that waits for its parent's end, so that nothing outlives a run that is killed.
_JOIN = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'


class Machine:
    """A booted system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._group = _control_group()
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Returns when systemd says that all is up."""
        self._group.mkdir()
        argv = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _JOIN, "sh", str(self._group)]
        argv += [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--ipc",
            "--uts",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]
        argv += ["bash", "-c", _BOOT, "boot", str(self.root)]
        log = self.root.with_name("boot.log")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            self._pid = int(wait_until("a first process", children.read_text).split()[0])
            wait_until("all is up", self._is_up, within_s=90)
        except (Failed, OSError) as wrong:
            raise Failed(f"no system boots: {wrong}\n{log.read_text(encoding='utf-8')}") from wrong

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).strip()
        # Degraded: a unit has failed, as some may without devices.
        return state in ("running", "degraded")

    def run(self, *argv: str, check: bool = True, timeout_s: float = 120, netns: str = "") -> str:
        """Runs a command there, in a network namespace of there if one is named."""
        inside = ("ip", "netns", "exec", netns) if netns else ()
        environment = (
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "DEBIAN_FRONTEND=noninteractive",
        )
        return run(
            "nsenter",
            f"--target={self._pid}",
            "--all",
            *environment,
            *inside,
            *argv,
            check=check,
            timeout_s=timeout_s,
        )

    def outside(self, netns: str) -> list[str]:
        """What runs a program of this machine in a network namespace of there."""
        return ["nsenter", f"--net=/proc/{self._pid}/root/run/netns/{netns}"]

    def write(self, path: str, text: str) -> None:
        """Writes a file there, at once."""
        place = Path(f"/proc/{self._pid}/root{path}")
        beside = place.with_name(place.name + ".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(place)

    def proc(self, pid: int) -> Path:
        """What its kernel tells of one of its processes."""
        return Path(f"/proc/{self._pid}/root/proc/{pid}")

    def shut_down(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process is not None:
            if self._pid:
                # All others of its process namespace go with the first (pid_namespaces(7)).
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait(timeout=30)
        _remove_group(self._group)


def _control_group() -> Path:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place) / f"sgflow-package-{os.getpid()}"
    raise Failed(
        "this machine has no control groups of version 2 mounted, without which systemd does not start"
    )


def _remove_group(group: Path) -> None:
    deadline = time.monotonic() + 10
    while group.exists():
        for directory in sorted(group.rglob("*/"), reverse=True):
            _try_rmdir(directory)
        _try_rmdir(group)
        if time.monotonic() > deadline:
            raise Failed(f"{group} cannot be removed")
        time.sleep(0.05)


def _try_rmdir(directory: Path) -> None:
    # Not empty yet, or a process in it is not gone yet.
    with suppress(OSError):
        directory.rmdir()
