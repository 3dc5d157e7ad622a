# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The conversation with the daemon: numbered changes in a session that begins with everything.

One rule keeps it simple: whenever it is not certain what the daemon holds, a new session begins.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Any, Iterable

from oslo_log import log as logging

from sgflow_neutron.client import Client, OutOfStep, Rejected, Unavailable
from sgflow_neutron.policy import Change, Policy

LOG = logging.getLogger(__name__)

RETRY_INTERVAL = 0.5
# A daemon that refuses to be in step after so many new sessions in one push is told so.
MOST_SESSIONS = 3


class NotApplied(Exception):
    """The daemon holds the change, and does not enforce it yet."""


class Session:
    def __init__(self, policy: Policy, client: Client) -> None:
        self._policy = policy
        self._client = client
        # Whether the agent has told something. A daemon that is as new as the agent would take nothing for
        # everything, and close every port.
        self.has_begun = False
        # Whether a batch is being told, which is told to a new daemon when it is whole.
        self.holds_back = False
        # One request at a time: their order is their meaning.
        self._talking = threading.Lock()
        self._session: str | None = None
        self._sequence = 0
        self._daemon: str | None = None
        # Whether the last change that the daemon took is in force.
        self._applied = True
        self._down_since: float | None = None
        self._waiting: str | None = None
        self._rejected: str | None = None
        # Ports that must be enforced before a batch ends, and those that the daemon said it enforces.
        self._expected: set[str] = set()
        self._enforced: set[str] = set()

    def expect(self, port: str) -> None:
        """The agent sees this port on the bridge, maybe a new interface of it: the daemon must enforce it,
        and say so, before the batch ends."""
        self._expected.add(port)

    def expect_first(self, port: str) -> None:
        """As expect, for a port that may have been waited for already."""
        if port not in self._enforced:
            self._expected.add(port)

    def expect_no_more(self, port: str) -> None:
        self._expected.discard(port)
        self._enforced.discard(port)

    def expect_again(self) -> None:
        """Open vSwitch has restarted: nothing that was enforced need be."""
        self._enforced.clear()

    def push(self, timeout: float) -> None:
        """Tell the daemon what is new and return when all of it is in force, or raise.

        A daemon that has just gone is waited for, it may be restarting. When it has been gone for longer than
        the timeout this fails at once, so that the agent goes round its loop as always.
        """
        deadline = time.monotonic() + timeout
        sessions = 0
        with self._talking:
            while self._policy.is_news() or self._expected or not self._applied:
                self.has_begun = True
                try:
                    self._send(max(0, math.ceil(deadline - time.monotonic())), set(self._expected))
                except OutOfStep:
                    sessions += 1
                    if sessions >= MOST_SESSIONS:
                        raise
                    continue
                except Unavailable:
                    now = time.monotonic()
                    if now >= deadline or now - self._down_since > timeout:
                        raise
                    time.sleep(RETRY_INTERVAL)
                    continue
                if not self._applied:
                    raise NotApplied(
                        f"not in force after {timeout:.0f} s: {self._waiting or 'the daemon is still at it'}"
                    )

    def check(self) -> None:
        """Ask the daemon what it holds, and tell it everything if that is not what it should be.

        Called every other second. Does nothing while a change is under way, and waits for no port: that is
        for the batch that the port is in.
        """
        if not self._talking.acquire(blocking=False):
            return
        try:
            try:
                state = self._client.state()
            except Unavailable as error:
                self._lost(error)
                return
            self._found(state)
            held = (state.get("daemon"), state.get("session"), state.get("sequence"))
            if held == (self._daemon, self._session, self._sequence):
                self._applied = state.get("applied") == self._sequence
                return
            self._session = None
            if not self.has_begun or self.holds_back:
                return
            try:
                self._send(0, set())
                self._rejected = None
            except (OutOfStep, Unavailable) as error:
                LOG.debug("sgflow: everything is told again at the next check: %s", error)
            except Rejected as error:
                if self._rejected != str(error):
                    self._rejected = str(error)
                    LOG.error("sgflow: the daemon does not take what the agent has told: %s", error)
        finally:
            self._talking.release()

    def _send(self, wait: int, expected: set[str]) -> None:
        """One request and its answer."""
        if self._session is None:
            session, sequence, change = str(uuid.uuid4()), 1, self._policy.whole()
        else:
            session, sequence, change = self._session, self._sequence + 1, self._policy.difference()
        body: dict[str, Any] = {"session": session, "sequence": sequence, **change.body}
        if expected:
            body["expect"] = sorted(expected)
        try:
            answer = self._client.change(body, wait)
        except OutOfStep as error:
            LOG.info("sgflow: the daemon is told everything, since it is out of step: %s", error)
            self._session = None
            raise
        except Unavailable as error:
            self._lost(error)
            raise
        self._session, self._sequence, self._daemon = session, sequence, answer.get("daemon")
        self._policy.took(change)
        self._found(answer)
        self._applied = answer.get("state") == "applied"
        self._log_answer(change, answer)
        if self._applied:
            self._settle(expected, answer)

    def _settle(self, expected: set[str], answer: dict[str, Any]) -> None:
        """A port that is not on the bridge any more is no failure: the agent will say that it is gone. Nor is
        one that stays closed because something of it was refused: to try again would not open it."""
        without = set(answer.get("absent") or ()) | {
            entry.get("port") for entry in answer.get("closed") or ()
        }
        self._enforced |= expected - without
        self._enforced -= without
        self._expected -= expected

    def _lost(self, error: Unavailable) -> None:
        self._session = None
        if self._down_since is None:
            self._down_since = time.monotonic()
            LOG.error(
                "sgflow: the daemon at %s is not available (%s). What it enforced stays enforced, and new "
                "ports stay closed until it is back.",
                self._client.path,
                error,
            )

    def _found(self, answer: dict[str, Any]) -> None:
        if self._down_since is not None:
            self._down_since = None
            LOG.info("sgflow: the daemon at %s is back.", self._client.path)
        waiting = answer.get("waiting")
        if waiting != self._waiting:
            self._waiting = waiting
            if waiting:
                LOG.warning("sgflow: the daemon cannot keep the switch: %s", waiting)
            else:
                LOG.info("sgflow: the daemon keeps the switch again.")

    @staticmethod
    def _log_answer(change: Change, answer: dict[str, Any]) -> None:
        for refused in _dicts(answer.get("refused")):
            LOG.warning(
                "sgflow: refused %s: %s: %s",
                refused.get("object"),
                refused.get("field"),
                refused.get("reason"),
            )
        for closed in _dicts(answer.get("closed")):
            LOG.warning("sgflow: port %s is closed: %s", closed.get("port"), closed.get("reason"))
        absent = answer.get("absent")
        if absent:
            LOG.info("sgflow: not on the integration bridge: %s", ", ".join(map(str, absent)))


def _dicts(entries: Iterable[Any] | None) -> list[dict[str, Any]]:
    return [entry for entry in entries or () if isinstance(entry, dict)]
