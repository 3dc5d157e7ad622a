# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""A daemon that keeps policy and enforces nothing, and a bridge that keeps flows and forwards nothing.

The daemon holds the driver to the API: types, sequence, differences that apply to what it holds.
"""

from __future__ import annotations

import copy
import http.server
import json
import pathlib
import socketserver
import threading
import uuid
from typing import Any

from neutron.plugins.ml2.drivers.openvswitch.agent.openflow import br_cookie

PORT_TYPES = {
    "network_id": str,
    "mac_address": str,
    "fixed_ips": list,
    "allowed_address_pairs": list,
    "security_groups": list,
    "port_security_enabled": bool,
    "device_owner": str,
}


class WrongChange(Exception):
    """Of a 400: the driver broke the contract."""


class OutOfStep(Exception):
    """Of a 409."""


class FakeDaemon:
    """start() and stop() are what an operator does to the real one; what is held does not outlive them, the
    enforced ports do."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changes: list[dict[str, Any]] = []
        self.waits: list[int] = []
        self.errors: list[str] = []
        self.enforced: dict[str, Any] = {}
        self.asked = 0
        # What the next answers say.
        self.pending: str | None = None
        self.refused: list[dict[str, str]] = []
        self.absent: set[str] = set()
        self.closed: dict[str, str] = {}
        self.status: int | None = None
        self._server: _Server | None = None
        self._forget()

    def _forget(self) -> None:
        self.daemon = str(uuid.uuid4())
        self.session: str | None = None
        self.sequence = 0
        self.applied = 0
        self.rules: dict[str, Any] = {}
        self.members: dict[str, dict[str, set]] = {}
        self.ports: dict[str, Any] = {}
        self.trusted: set[str] = set()

    def start(self) -> None:
        self._forget()
        self._server = _Server(self.path, _Handler)
        self._server.daemon_object = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
            pathlib.Path(self.path).unlink()

    def state(self) -> dict[str, Any]:
        return {
            "daemon": self.daemon,
            "session": self.session,
            "sequence": self.sequence,
            "applied": self.applied,
            "waiting": self.pending,
        }

    def take(self, body: Any) -> None:
        """Everything is checked before anything is taken."""
        _require(isinstance(body, dict), "an object")
        unknown = body.keys() - {
            *("session", "sequence", "rules", "members", "ports", "trusted", "expect")
        }
        _require(not unknown, f"no {unknown}")
        session, sequence = body.get("session"), body.get("sequence")
        _require(isinstance(session, str) and uuid.UUID(session).version == 4, "session: a UUID of version 4")
        _require(isinstance(sequence, int) and sequence >= 1, "sequence: a number from 1")
        first = sequence == 1
        if (first and session == self.session) or (
            not first and (session, sequence) != (self.session, self.sequence + 1)
        ):
            raise OutOfStep
        members = {} if first else copy.deepcopy(self.members)
        for group, rules in body.get("rules", {}).items():
            _require(rules is None or all(isinstance(rule, dict) for rule in rules), f"rules of {group}")
        for group, delta in body.get("members", {}).items():
            if delta is None:
                members.pop(group, None)
                continue
            held = members.setdefault(group, {})
            for ethertype, parts in delta.items():
                _require(ethertype in ("IPv4", "IPv6") and parts.keys() == {"add", "remove"}, f"{delta}")
                add = {tuple(member) for member in parts["add"]}
                remove = {tuple(member) for member in parts["remove"]}
                known = held.get(ethertype, set())
                _require(not (add & known), f"{add & known} of {group} again")
                _require(remove <= known, f"{remove - known} of {group} was never a member")
                held[ethertype] = (known | add) - remove
        for port, told in body.get("ports", {}).items():
            if told is not None:
                _require(told.keys() == PORT_TYPES.keys(), f"{port}: {sorted(told)}")
                for key, kind in PORT_TYPES.items():
                    _require(isinstance(told[key], kind), f"{port}: {key}")
        trusted = body.get("trusted", [])
        _require(not set(trusted) & body.get("ports", {}).keys(), "a port in ports or in trusted")
        if first:
            self.rules, self.ports, self.trusted = {}, {}, set()
        self.members = members
        _merge(self.rules, body.get("rules", {}))
        _merge(self.ports, body.get("ports", {}))
        self.trusted -= body.get("ports", {}).keys()
        self.trusted.update(trusted)
        for port in trusted:
            self.ports.pop(port, None)
        self.session, self.sequence = session, sequence
        if self.pending is None:
            self.applied = sequence
            _merge(self.enforced, body.get("ports", {}))
            self.enforced.update(dict.fromkeys(trusted, "trusted"))
        self.changes.append(body)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        expected = set(body.get("expect", []))
        answer = {
            "daemon": self.daemon,
            "session": self.session,
            "sequence": self.sequence,
            "refused": self.refused,
            "absent": sorted(expected & self.absent),
            "closed": [
                {"port": port, "reason": why} for port, why in self.closed.items() if port in expected
            ],
        }
        if self.pending is not None:
            return 202, {**answer, "state": "pending", "waiting": self.pending}
        return 200, {**answer, "state": "applied"}


def _require(held: bool, what: str) -> None:
    if not held:
        raise WrongChange(what)


def _merge(held: dict[str, Any], told: dict[str, Any]) -> None:
    for key, value in told.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    daemon_object: FakeDaemon


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_arguments) -> None:
        pass

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        daemon = self.server.daemon_object
        daemon.asked += 1
        if daemon.status is not None:
            self._answer(
                daemon.status, {"error": {"object": "peer", "field": "uid", "reason": "not allowed"}}
            )
        elif self.path == "/v1/neutron-driver":
            self._answer(200, daemon.state())
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        daemon = self.server.daemon_object
        text = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?wait=")
        try:
            if daemon.status is not None:
                error = {"object": "peer", "field": "uid", "reason": "not allowed"}
                self._answer(daemon.status, {"error": error})
                return
            _require(path == "/v1/neutron-driver" and 0 <= int(query) <= 60, self.path)
            daemon.waits.append(int(query))
            body = json.loads(text)
            daemon.take(body)
            self._answer(*daemon.answer(body))
        except OutOfStep:
            error = {"object": "change", "field": "sequence", "reason": "not the next"}
            self._answer(409, {"error": error, "session": daemon.session, "sequence": daemon.sequence})
        except (WrongChange, ValueError, KeyError, AttributeError, TypeError) as error:
            daemon.errors.append(f"{type(error).__name__}: {error}")
            self._answer(400, {"error": {"object": "change", "field": "", "reason": str(error)}})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True


class _Parser:
    @staticmethod
    def NXActionResubmitTable(table_id: int) -> str:
        return f"resubmit(,{table_id})"


class _Switch:
    """Its table 60, and whether it can be reached."""

    def __init__(self) -> None:
        self.flows: dict[int, tuple[int, str]] = {}
        self.history: list[str] = []
        self.broken = False

    def add(self, priority: int, cookie: int, actions: str) -> None:
        if self.broken:
            raise RuntimeError("Switch connection timeout")
        self.flows[priority] = (cookie, actions)
        self.history.append(actions)


class _Base:
    """What the cookie mix-in of Neutron stands on."""

    def __init__(self) -> None:
        self._default_cookie = 0xA9E27

    @property
    def default_cookie(self) -> int:
        return self._default_cookie

    def set_agent_uuid_stamp(self, cookie: int) -> None:
        self._default_cookie = cookie


class _Flow:
    def __init__(self, priority: int) -> None:
        self.priority = priority


class FakeBridge(br_cookie.OVSBridgeCookieMixin, _Base):
    """The integration bridge, with Neutron's own keeping of cookies."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = _Switch()
        # Priorities of what Neutron's own driver has in table 71.
        self.in_tree: list[int] = []

    def _get_dp(self) -> tuple[None, None, type[_Parser]]:
        return None, None, _Parser

    def install_apply_actions(self, actions: list[str], table_id: int, priority: int) -> None:
        assert table_id == 60
        self.switch.add(priority, self.default_cookie, ",".join(actions))

    def dump_flows(self, table_id: int) -> list[_Flow]:
        assert table_id in (60, 71)
        return [_Flow(priority) for priority in (self.switch.flows if table_id == 60 else self.in_tree)]

    def setup_default_table(self, enable_openflow_dhcp: bool = False, enable_dhcpv6: bool = False) -> str:
        self.switch.add(1, self.default_cookie, "NORMAL")
        return "defaults"

    def cleanup_flows(self) -> None:
        """After the agent's first iteration: what has a cookie that nobody reserved is deleted."""
        for priority, (cookie, _) in list(self.switch.flows.items()):
            if cookie not in self.reserved_cookies:
                del self.switch.flows[priority]

    @property
    def hook(self) -> tuple[int, str] | None:
        return self.switch.flows.get(65000)
