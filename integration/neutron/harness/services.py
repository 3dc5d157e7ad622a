"""RabbitMQ, MariaDB and neutron-server, private to one run: everything listens on the loopback of its
namespace only."""

import os
import shutil
import socket
from pathlib import Path

from harness.install import NEUTRON_VERSION
from harness.shell import HarnessError, Process, run, wait_until

ADDRESS = "127.0.0.1"
API_PORT = 9696
AMQP_PORT = 5672
_EPMD_PORT = 4369
_DATABASE_PORT = 3306
_START_S = 120
_MIGRATE_S = 400

PHYSNET_VLAN = "physvlan"
PHYSNET_FLAT = "physflat"

TRANSPORT_URL = f"rabbit://guest:guest@{ADDRESS}:{AMQP_PORT}/"

_NEUTRON_CONF = """\
[DEFAULT]
auth_strategy = noauth
core_plugin = ml2
service_plugins =
transport_url = {transport}
state_path = {state}
api_paste_config = {etc}/api-paste.ini
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
dhcp_agent_notification = false
rpc_workers = 1
rpc_state_report_workers = 1
host = server
[quotas]
quota_port = -1
quota_security_group = -1
quota_security_group_rule = -1
quota_network = -1
quota_subnet = -1
[database]
connection = mysql+pymysql://neutron:neutron@{address}:{database}/neutron?charset=utf8
[oslo_concurrency]
lock_path = {state}/lock
[oslo_messaging_notifications]
driver = noop
[ml2]
type_drivers = flat,vlan,vxlan
project_network_types = vxlan
mechanism_drivers = openvswitch
extension_drivers = port_security
[ml2_type_flat]
flat_networks = {flat}
[ml2_type_vlan]
network_vlan_ranges = {vlan}:100:199
[ml2_type_vxlan]
vni_ranges = 1:1000
"""


class Services:
    """The three, in the order in which they need each other."""

    def __init__(self, venv: Path, cache: Path, rundir: Path, logs: Path) -> None:
        self._venv = venv
        self._cache = cache
        self._rundir = rundir
        self._logs = logs
        self.etc = rundir / "etc"
        self.state = rundir / "state"
        self.processes: list[Process] = []

    def start(self) -> None:
        for directory in (self.etc, self.state / "lock"):
            directory.mkdir(parents=True)
        self._write_configuration()
        # RabbitMQ takes the longest and needs no help: the database comes up beside it.
        rabbit = self._start_rabbit()
        self._start_database()
        self._wait_for_port(rabbit, AMQP_PORT)
        self._start_neutron()

    def stop(self) -> None:
        """They hold nothing that is worth an orderly end."""
        for process in reversed(self.processes):
            process.kill()

    def kill_rabbit(self) -> None:
        """As a crash would; what is in it that is not durable dies with it."""
        self._named("rabbitmq-server").kill()

    def start_rabbit(self) -> None:
        """After it was killed."""
        rabbit = self._named("rabbitmq-server")
        rabbit.start_again()
        self._wait_for_port(rabbit, AMQP_PORT)

    def restart_neutron(self) -> None:
        """Both of its processes, as after a crash."""
        processes = [self._named(name) for name in ("neutron-rpc-server", "neutron-api")]
        for process in processes:
            process.kill()
        for process in processes:
            process.start_again()
        self._wait_for_port(processes[1], API_PORT)

    def _named(self, name: str) -> Process:
        return next(process for process in self.processes if process.name == name)

    def _write_configuration(self) -> None:
        text = _NEUTRON_CONF.format(
            transport=TRANSPORT_URL,
            address=ADDRESS,
            database=_DATABASE_PORT,
            state=self.state,
            etc=self.etc,
            flat=PHYSNET_FLAT,
            vlan=PHYSNET_VLAN,
        )
        (self.etc / "neutron.conf").write_text(text)
        paste = (self._venv / "etc/neutron/api-paste.ini").read_text()
        # The health check reads a file below /var/lib otherwise.
        paste = paste.replace("/var/lib/neutron/healthcheck_disable", str(self.state / "disabled"))
        (self.etc / "api-paste.ini").write_text(paste)

    def _start_rabbit(self) -> Process:
        home = self._rundir / "rabbit"
        home.mkdir()
        (home / "enabled_plugins").write_text("[].")
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {ADDRESS}:{AMQP_PORT}\n")
        (home / "rabbitmq-env.conf").write_text("")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "RABBITMQ_NODENAME": "sgflow@localhost",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "ERL_EPMD_PORT": str(_EPMD_PORT),
        }
        # Erlang would start its port mapper as a daemon; in the foreground it is a child of ours.
        epmd = ["epmd", "-port", str(_EPMD_PORT), "-address", ADDRESS]
        self._started(Process("epmd", epmd, self._logs / "epmd.log"))
        # The wrapper in the path changes to another user; this is what it calls.
        programs = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not programs:
            raise HarnessError("rabbitmq-server is not installed")
        return self._started(
            Process("rabbitmq-server", [str(programs[-1])], self._logs / "rabbitmq.log", environment)
        )

    def _start_database(self) -> None:
        """Starts MariaDB with Neutron's tables. Their migrations take a minute, so a data directory that
        has them is kept."""
        data = self._rundir / "mariadb"
        version = run("mariadbd", "--version").split()[2]
        kept = self._cache / f"database-{NEUTRON_VERSION}-{version}"
        if kept.is_dir():
            shutil.copytree(kept, data)
            self._start_mariadb(data)
            return
        run(
            *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"),
            *("--innodb-log-file-size=8M", "--auth-root-authentication-method=normal"),
        )
        mariadb = self._start_mariadb(data)
        self._sql("create database neutron character set utf8mb3")
        self._sql(f"create user neutron@'{ADDRESS}' identified by 'neutron'")
        self._sql(f"grant all on neutron.* to neutron@'{ADDRESS}'")
        manage = (str(self._venv / "bin/neutron-db-manage"), "--config-file", str(self.etc / "neutron.conf"))
        run(*manage, "upgrade", "heads", timeout_s=_MIGRATE_S)
        mariadb.stop()
        unfinished = kept.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(data, unfinished)
        unfinished.rename(kept)
        self._start_mariadb(data)

    def _start_mariadb(self, data: Path) -> Process:
        arguments = [
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={self._database_socket}",
            f"--pid-file={self._rundir / 'mariadb.pid'}",
            f"--bind-address={ADDRESS}",
            f"--port={_DATABASE_PORT}",
            "--innodb-log-file-size=8M",
            # Nothing here is to survive a crash of the machine.
            "--innodb-flush-log-at-trx-commit=0",
        ]
        process = self._started(Process("mariadbd", arguments, self._logs / "mariadb.log"))
        self._wait_for_port(process, _DATABASE_PORT)
        return process

    @property
    def _database_socket(self) -> Path:
        return self._rundir / "mariadb.sock"

    def _sql(self, statement: str) -> None:
        run("mariadb", "--no-defaults", "-uroot", "-S", str(self._database_socket), "-e", statement)

    def _start_neutron(self) -> None:
        python = str(self._venv / "bin/python")
        conf = str(self.etc / "neutron.conf")
        rpc = [str(self._venv / "bin/neutron-rpc-server"), "--config-file", conf]
        self._started(Process("neutron-rpc-server", rpc, self._logs / "neutron-rpc-server.log"))
        environment = os.environ | {
            "OS_NEUTRON_CONFIG_DIR": f"{self.etc}/",
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        }
        serve = [python, str(Path(__file__).with_name("serve_api.py")), ADDRESS, str(API_PORT)]
        api = self._started(Process("neutron-api", serve, self._logs / "neutron-api.log", environment))
        self._wait_for_port(api, API_PORT)

    def _started(self, process: Process) -> Process:
        self.processes.append(process)
        return process

    @staticmethod
    def _wait_for_port(process: Process, port: int) -> None:
        def answers() -> bool:
            process.must_be_alive()
            socket.create_connection((ADDRESS, port), timeout=1).close()
            return True

        wait_until(f"{process.name} on port {port}", answers, _START_S)
