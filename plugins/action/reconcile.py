# GNU General Public License v3.0+ (see LICENSE)
"""Brings a running PostgreSQL to what its mounted files say: certificate, settings, roles, passwords, extensions."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.database import RECONCILED, Database
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.scheduling import Patience
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import read_secret
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import look_at
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction

# A line for each: what the server itself says of its state.
STATE = """
SELECT pg_reload_conf() \\g /dev/null
SELECT pg_sleep(0.1) \\g /dev/null
SELECT 'pending', name FROM pg_settings WHERE pending_restart;
SELECT 'error', name || ': ' || error FROM pg_file_settings WHERE error IS NOT NULL
  AND error NOT LIKE '%could not be changed%' AND error <> 'setting could not be applied';
SELECT 'role', rolname FROM pg_roles WHERE rolcanlogin;
SELECT 'extension', extname FROM pg_extension WHERE extname <> 'plpgsql';
"""


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/reconcile.py."""

    _VALID_ARGS = frozenset(
        (
            "kubeconfig",
            "context",
            "namespace",
            "pod",
            "port",
            "database",
            "files",
            "secrets",
            "mark",
            "scripts",
            "logins",
            "adopt",
            "extensions",
            "timeout",
        )
    )

    def act(self, kube: Kube) -> dict[str, Any]:
        args = self._task.args
        database = Database(kube, args["namespace"], args["pod"], args["database"], int(args["port"]))
        secrets = {
            f"{folder}/{key}": value
            for folder, name in args["secrets"].items()
            for key, value in read_secret(kube, args["namespace"], name).items()
        }
        reloaded = database.sync(args["files"], secrets)
        state = self._state(database)
        pending = state["pending"]
        if pending:
            self._restart(database)
            state = self._state(database)
        if not args["adopt"]:
            self._check_logins(database, state["role"])
        for script in args["scripts"]:
            database.run_script(script)
        database.annotate(RECONCILED, args["mark"])
        return {
            "changed": reloaded or bool(pending),
            "reloaded": reloaded,
            "restarted": bool(pending),
            "settings": pending,
            "not_wanted": sorted(set(state["extension"]) - set(args["extensions"])),
        }

    @staticmethod
    def _state(database: Database) -> dict[str, list[str]]:
        """What the server says of itself, having read its files anew.

        Raises:
            KubeError: a setting in its files is wrong. It goes on with the old value.
        """
        found: dict[str, list[str]] = {"pending": [], "error": [], "role": [], "extension": []}
        for line in database.sql(STATE).splitlines():
            kind, _, value = line.partition("|")
            found[kind].append(value)
        if found["error"]:
            raise KubeError(f"postgres_settings: {'; '.join(found['error'])}. The server goes on with the old value.")
        return found

    def _restart(self, database: Database) -> None:
        """Replace the pod, and wait until the new one serves."""
        kube, namespace = database.kube, database.namespace
        path = kube.path("Pod", namespace, database.pod)
        old = kube.request("DELETE", path)["metadata"]["uid"]
        end, patience = time.monotonic() + float(self._task.args["timeout"]), Patience()
        while time.monotonic() < end:
            pod = kube.get("Pod", database.pod, namespace)
            if pod and pod["metadata"]["uid"] != old:
                state = look_at(kube, "StatefulSet", database.pod.rpartition("-")[0], namespace, patience)
                if state.ready:
                    return
                if state.failed:
                    raise KubeError(f"The server does not start again: {state.failed}")
            time.sleep(0.2)
        raise KubeError(f"The server did not start again within {self._task.args['timeout']} s (site_wait_timeout).")

    def _check_logins(self, database: Database, roles: list[str]) -> None:
        """Nobody's password is replaced by accident: a volume may be another site's.

        Raises:
            KubeError: the server has another password for a role than the one that is mounted.
        """
        for user in database.refused(self._task.args["logins"]):
            if user in roles:
                raise KubeError(
                    f"The database in the volume has another password for {user} than the vault: "
                    "it was made by another vault, or its password was changed with ALTER "
                    "ROLE. Nothing in it was changed. Put the old value into the vault (ansible-vault edit "
                    "group_vars/all/vault.yml), or, if the data is this site's, give it the vault's passwords: deploy "
                    "once with -e recover=reset."
                )
