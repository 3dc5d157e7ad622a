# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""SGFLOW_EVENTLET=1 runs them on green threads, as the agents of 22 to 26 do with everything."""

import os

if os.environ.get("SGFLOW_EVENTLET"):
    import eventlet

    eventlet.monkey_patch()
