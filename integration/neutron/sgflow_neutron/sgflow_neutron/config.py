# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The group [SGFLOW] of openvswitch_agent.ini."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "SGFLOW"

OPTS = [
    cfg.StrOpt(
        "socket",
        default="/run/sgflow/sgflow.sock",
        help="Unix socket of the sgflow daemon (its api.socket). The user that the agent runs as must be in "
        "the groups sgflow, whose the socket is, and sgflow-policy, which may change the policy.",
    ),
    cfg.IntOpt(
        "apply_timeout",
        default=30,
        min=1,
        max=60,
        help="Seconds for which a batch of changes waits until the daemon enforces it. When they are over "
        "the batch fails, its ports do not go up, and the agent tries all of it again.",
    ),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Registering the same options again changes nothing, so whoever needs them may call this."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For oslo-config-generator --namespace sgflow."""
    return [(GROUP, OPTS)]
