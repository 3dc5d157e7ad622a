"""The little of the Networking API v2.0 that the checks need."""

import json
from http.client import HTTPConnection
from typing import Any

from harness.services import ADDRESS, API_PORT
from harness.shell import HarnessError, wait_until

PROJECT = "5f10000000000000000000000000f10a"
_TIMEOUT_S = 60
_FIRST_ANSWER_S = 120

Object = dict[str, Any]


class Api:
    """One request a call; an answer that is no success is an error with the server's words."""

    def wait(self) -> None:
        """Until the server answers: it listens before it has read its extensions."""
        wait_until("an answer of neutron-server", lambda: self.find("networks") is not None, _FIRST_ANSWER_S)

    def create(self, kind: str, **fields: Any) -> Object:
        """Makes one object: `kind` is its name in the singular, with underscores."""
        return self._request("POST", _path(kind), {kind: {"project_id": PROJECT, **fields}})[kind]

    def create_ports(self, ports: list[Object]) -> list[Object]:
        """Several ports in one request."""
        body = {"ports": [{"project_id": PROJECT, **port} for port in ports]}
        return self._request("POST", "ports", body)["ports"]

    def update(self, kind: str, identity: str, **fields: Any) -> Object:
        return self._request("PUT", f"{_path(kind)}/{identity}", {kind: fields})[kind]

    def delete(self, kind: str, identity: str) -> None:
        self._request("DELETE", f"{_path(kind)}/{identity}")

    def get(self, kind: str, identity: str) -> Object:
        return self._request("GET", f"{_path(kind)}/{identity}")[kind]

    def find(self, collection: str, query: str = "") -> list[Object]:
        path = collection.replace("_", "-")
        return self._request("GET", f"{path}?{query}" if query else path)[collection]

    def change_addresses(
        self, group: str, *, add: list[str] | None = None, remove: list[str] | None = None
    ) -> None:
        """Adds and removes addresses of an address group."""
        for verb, addresses in (("add_addresses", add), ("remove_addresses", remove)):
            if addresses:
                self._request("PUT", f"address-groups/{group}/{verb}", {"addresses": addresses})

    @staticmethod
    def _request(method: str, path: str, body: Object | None = None) -> Object:
        connection = HTTPConnection(ADDRESS, API_PORT, timeout=_TIMEOUT_S)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/v2.0/{path}", text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise HarnessError(f"{method} {path}: {response.status} {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else {}


def _path(kind: str) -> str:
    return f"{kind.replace('_', '-')}s"
