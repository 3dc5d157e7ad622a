"""What of sgflow runs beside the driver under test: daemons for other bridges, a policy store, publishers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.daemon import Daemon, Served
from harness.services import ADDRESS, TRANSPORT_URL
from harness.shell import HarnessError, Process, run, wait_until
from harness.switch import Switch

_DATABASE = "sgflow"
_START_S = 60
_PUBLISHER = """\
[agent]
role = "publisher"
host = "{host}"
[store]
connection = "{store}"
[neutron]
transport_url = "{url}"
"""


class Beside:
    """Makes them; each has a directory of its own in the run's, and a log."""

    def __init__(self, program: Path, switch: Switch, rundir: Path, logs: Path) -> None:
        self._program, self._switch, self._rundir, self._logs = program, switch, rundir, logs

    @contextmanager
    def daemon(self, bridge: str, policy: str, host: str) -> Iterator[Daemon]:
        """A bridge of its own, and a daemon for it that is started; `policy` are lines of its settings."""
        rundir = self._directory(bridge)
        log = self._logs / f"{bridge}.log"
        daemon = Daemon(self._program, self._switch, bridge, rundir, log, policy, host)
        settings = ("datapath_type=netdev", "fail_mode=secure")
        self._switch.vsctl("add-br", bridge, "--", "set", "Bridge", bridge, *settings)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()
            self._switch.vsctl("del-br", bridge)

    def looker(self, options: Sequence[str], writer: str) -> "Looker":
        """The commands that only look at the switch."""
        return Looker(self._program, self._switch, options, writer)

    def document(self, policy: dict[str, Any]) -> str:
        """A file with a policy."""
        document = self._rundir / "policy.json"
        document.write_text(json.dumps(policy))
        return str(document)

    @contextmanager
    def store(self, name: str, base_port: int) -> Iterator["Store"]:
        """An empty store of three servers that listen at this port and the next ones."""
        store = Store(self._program, self._directory(name), self._logs, base_port)
        try:
            store.start()
            yield store
        finally:
            store.stop()

    @contextmanager
    def publisher(self, store: "Store", host: str) -> Iterator[Served]:
        """One that is started."""
        settings = _PUBLISHER.format(host=host, store=store.remotes, url=TRANSPORT_URL)
        name = f"publisher-{host}"
        rundir = self._directory(f"{name}-{store.name}")
        log = self._logs / f"{name}.log"
        publisher = Served(self._program, self._switch.environment, rundir, log, settings)
        publisher.start()
        try:
            yield publisher
        finally:
            publisher.stop()

    def _directory(self, name: str) -> Path:
        path = self._rundir / name
        path.mkdir()
        return path


class Looker:
    """`sgflow explain` and its like; `writer` is whose flows filter."""

    def __init__(self, program: Path, switch: Switch, options: Sequence[str], writer: str) -> None:
        self._program, self._switch, self._options, self.writer = program, switch, options, writer

    def text(self, *words: str) -> str:
        """What a command prints; one that is not content is an error. 2: all but what is closed or refused, as the
        interfaces that checks leave behind are."""
        options = [*self._options, "--ovsdb", self._switch.database]
        return run(str(self._program), *words, *options, env=self._switch.environment, content=(0, 2))

    def json(self, *words: str) -> dict[str, Any]:
        """The same for programs."""
        return json.loads(self.text(*words, "--json"))


class Store:
    """Three ovsdb-servers, a cluster. They listen by TCP, so that what hosts receive can be counted."""

    def __init__(self, program: Path, rundir: Path, logs: Path, base_port: int) -> None:
        self._program, self._rundir, self._logs = program, rundir, logs
        self.ports = [base_port + place for place in range(3)]
        self._servers: list[Process] = []

    @property
    def name(self) -> str:
        return self._rundir.name

    @property
    def remotes(self) -> str:
        """As `--store` takes it."""
        return ",".join(f"tcp:{ADDRESS}:{port}" for port in self.ports)

    @property
    def policy(self) -> str:
        """Lines of a daemon's settings: the policy comes from here."""
        return f'source = "store"\n[store]\nconnection = "{self.remotes}"'

    def start(self) -> None:
        for place, port in enumerate(self.ports):
            file = self._rundir / f"{place}.db"
            raft = [f"unix:{self._rundir / f'{member}.raft'}" for member in (place, 0)]
            join = ["--join", raft[1]] if place else []
            run(
                *(str(self._program), "policy", "init", "--database", str(file), "--cluster", raft[0], *join),
            )
            log = self._logs / f"{self.name}-{place}.log"
            arguments = ["ovsdb-server", str(file), f"--remote=ptcp:{port}:{ADDRESS}", "--no-chdir"]
            arguments += [f"--unixctl={self._control(place)}", "-vconsole:info"]
            self._servers.append(Process(f"ovsdb-server {place} of {self.name}", arguments, log))
            self._wait_until_joined(place)
        self.ask("init")

    def stop(self) -> None:
        for server in self._servers:
            server.kill()

    def leader(self) -> int:
        """Which of them leads."""

        def leading() -> list[int]:
            servers = enumerate(self._servers)
            return [place for place, server in servers if server.alive() and self._leads(place)]

        return wait_until(f"a leader of {self.name}", leading, _START_S)[0]

    def kill(self, place: int) -> None:
        """As a crash would."""
        self._servers[place].kill()

    def start_again(self, place: int) -> None:
        self._servers[place].start_again()
        self._wait_until_joined(place)

    def ask(self, *command: str) -> str:
        """`sgflow policy`."""
        return run(str(self._program), "policy", *command, "--store", self.remotes)

    def document(self) -> dict[str, Any]:
        """All that is in it."""
        return json.loads(self.ask("get", "--json"))

    def revision(self) -> int:
        """How often it was written."""
        query = ["sgflow", {"op": "select", "table": "Global", "where": [], "columns": ["revision"]}]
        address = f"tcp:{ADDRESS}:{self.ports[self.leader()]}"
        answer = json.loads(run("ovsdb-client", "transact", address, json.dumps(query)))
        return answer[0]["rows"][0]["revision"]

    def watch(self) -> "Watch":
        return Watch([str(self._program), "policy", "watch", "--json", "--store", self.remotes], self._rundir)

    def _leads(self, place: int) -> bool:
        arguments = ("ovs-appctl", "-t", str(self._control(place)), "cluster/status", _DATABASE)
        return "\nRole: leader\n" in run(*arguments, check=False)

    def _control(self, place: int) -> Path:
        return self._rundir / f"{place}.ctl"

    def _wait_until_joined(self, place: int) -> None:
        address = f"tcp:{ADDRESS}:{self.ports[place]}"
        # It waits for the connection, too.
        wait = ("ovsdb-client", f"--timeout={_START_S}", "wait", address, _DATABASE, "connected")

        def joined() -> bool:
            self._servers[place].must_be_alive()
            try:
                run(*wait)
            except HarnessError:
                return False
            return True

        wait_until(f"server {place} of {self.name}", joined, _START_S)


class Watch:
    """`sgflow policy watch`, since it was started."""

    def __init__(self, arguments: list[str], rundir: Path) -> None:
        self._log = rundir / "watch.jsonl"
        self._process = Process("sgflow policy watch", arguments, self._log)
        wait_until("what is in the store", lambda: "watching" in self._log.read_text(), _START_S)

    def changes(self) -> list[dict[str, Any]]:
        """Of one object each, in the order in which they came."""
        self._process.must_be_alive()
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def end(self) -> None:
        self._process.stop()
