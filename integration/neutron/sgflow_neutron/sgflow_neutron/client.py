# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP over the daemon's Unix socket, one request a connection.

http.client and socket only, so that it blocks one green thread where the agent runs on eventlet, and one
thread where it does not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

PATH = "/v1/neutron-driver"
# What the daemon may take beyond the time it was asked to wait: to read a large body, on a busy machine.
MARGIN = 10.0
STATE_TIMEOUT = 5.0
LARGEST_ANSWER = 16 * 1024 * 1024


class Unavailable(Exception):
    """No answer, or one that says nothing of the change: it may have been taken, or not."""


class OutOfStep(Exception):
    """The daemon holds another session, or another sequence of it, than the change follows."""


class Rejected(Exception):
    """Nothing of the change was taken, and sending it again would not help."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    def __init__(self, path: str) -> None:
        self.path = path

    def state(self) -> dict[str, Any]:
        """Whose changes the daemon holds, and how far."""
        status, answer = self._request("GET", PATH, None, STATE_TIMEOUT)
        if status != 200:
            raise Unavailable(_reason(status, answer))
        return answer

    def change(self, body: dict[str, Any], wait: int) -> dict[str, Any]:
        # What is no JSON type is an address object of some release; its text is what the API shows.
        text = json.dumps(body, separators=(",", ":"), default=str).encode()
        status, answer = self._request("POST", f"{PATH}?wait={wait}", text, wait + MARGIN)
        if status in (200, 202):
            return answer
        if status == 409:
            raise OutOfStep(_reason(status, answer))
        if status in (400, 413):
            raise Rejected(_reason(status, answer))
        raise Unavailable(_reason(status, answer))

    def _request(
        self, method: str, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, dict[str, Any]]:
        connection = _UnixConnection(self.path, timeout)
        headers = {"Connection": "close", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            # Who is refused by the headers alone is answered while the body is still being sent.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read(LARGEST_ANSWER) or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise Unavailable(f"{response.status}, and no JSON object")
        return response.status, answer


def _reason(status: int, answer: dict[str, Any]) -> str:
    error = answer.get("error")
    if not isinstance(error, dict):
        return f"HTTP {status}"
    return f"HTTP {status}: {error.get('object')}: {error.get('field')}: {error.get('reason')}"
