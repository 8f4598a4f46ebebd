# GNU General Public License v3.0+ (see LICENSE)
"""Imports the Kubernetes client once, before the first task that needs it.

Ansible runs every task in a fork of its own: what the parent has imported, all of them have. Else each look at the
cluster would cost a fifth of a second more. The forks' garbage collectors then leave the parent's objects alone: to
look at them would copy their memory, a fifth of what a small task costs.

On macOS a fork that asks the system for its proxies is ended by it. The client asks unless the environment names some,
so it is told there that none is wanted.
"""

from __future__ import annotations

DOCUMENTATION = """
    name: preload
    type: aggregate
    short_description: Import the Kubernetes client once for all tasks
    description: [Imports the client before the first task of this collection that talks to a cluster.]
"""

import contextlib
import gc
import os
import sys
from typing import Any
from urllib.request import getproxies_environment

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Ansible's side of it: see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if task.action.startswith("kubernetes_django.site.") and "only_variables" not in task.args:
            if sys.platform == "darwin" and not getproxies_environment():
                os.environ["no_proxy"] = "*"
            # Where it is not there, the task says so.
            with contextlib.suppress(ImportError):
                import kubernetes.config  # noqa: F401 (for the workers)

            gc.freeze()
