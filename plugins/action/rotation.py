# GNU General Public License v3.0+ (see LICENSE)
"""Lets the site log in by a stand-in while its password is changed, so that no login fails."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.database import (
    Database,
    make_stand_in,
    quoted_name,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed_checksum import keyed_checksum
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.scheduling import Patience
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import read_secret, write_secret
from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import explain, look_at
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction

KEYS = "secret-key-fallbacks"
KEPT_KEYS = 4
LOOK_SECONDS = 0.3


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/rotation.py."""

    _VALID_ARGS = frozenset(
        (
            "kubeconfig",
            "context",
            "namespace",
            "labels",
            "state",
            "pod",
            "port",
            "database",
            "user",
            "secret",
            "stand_in",
            "app",
            "fallbacks_secret",
            "settings_secret",
            "new_key",
            "timeout",
        )
    )

    def act(self, kube: Kube) -> dict[str, Any]:
        args = self._task.args
        self._kube = kube
        self._end = time.monotonic() + float(args["timeout"])
        database = Database(kube, args["namespace"], args["pod"], args["database"], int(args["port"]))
        if args["state"] == "begin":
            self._begin(database)
        else:
            self._finish(database)
        return {"changed": True}

    def _begin(self, database: Database) -> None:
        args = self._task.args
        # The password of a stand-in that is there may be in use.
        password = read_secret(self._kube, args["namespace"], args["stand_in"]).get("password") or random_text(40)
        stand_in = stand_in_of(args["user"])
        write_secret(
            self._kube, args["namespace"], args["stand_in"], args["labels"], {"user": stand_in, "password": password}
        )
        annotations = {}
        if args["app"]:
            database.sql(make_stand_in(stand_in, args["user"], password))
        if args["new_key"]:
            keys = [
                args["new_key"],
                read_secret(self._kube, args["namespace"], args["settings_secret"]).get("secret-key", ""),
            ]
            keys += read_secret(self._kube, args["namespace"], args["fallbacks_secret"]).get(KEYS, "").split(",")
            keys = [key for key in dict.fromkeys(keys) if key][:KEPT_KEYS]
            write_secret(
                self._kube, args["namespace"], args["fallbacks_secret"], args["labels"], {KEYS: ",".join(keys)}
            )
            annotations["kubernetes-django/fallbacks"] = keyed_checksum(keys, args["new_key"])
        if not args["app"] and not args["new_key"]:
            return
        for name in [self._move(item, stand_in, annotations) for item in self._deployments()]:
            self._wait_for(name)
        if args["app"]:
            self._wait_until_gone(args["secret"])

    def _finish(self, database: Database) -> None:
        args = self._task.args
        self._wait_until_gone(args["stand_in"])
        if database.pod:
            database.sql(f"DROP ROLE IF EXISTS {quoted_name(stand_in_of(args['user']))};")
        # Nobody can go back to a revision that needs what is gone now.
        for each in self._kube.list("ReplicaSet", args["namespace"], self._selector()):
            if mounts(each["spec"]["template"]["spec"], args["stand_in"]):
                self._kube.request("DELETE", self._kube.path("ReplicaSet", args["namespace"], each["metadata"]["name"]))
        self._kube.request("DELETE", self._kube.path("Secret", args["namespace"], args["stand_in"]))

    def _selector(self) -> dict[str, str]:
        return {PART_OF: self._task.args["labels"][PART_OF]}

    def _deployments(self) -> list[dict]:
        """The site's Deployments that log in as the app, or use Django's secrets."""
        wanted = [self._task.args[name] for name in ("secret", "settings_secret", "stand_in")]
        items = self._kube.list("Deployment", self._task.args["namespace"], self._selector())
        return [item for item in items if any(mounts(item["spec"]["template"]["spec"], name) for name in wanted)]

    def _move(self, item: dict, stand_in: str, annotations: dict[str, str]) -> str:
        """Let a Deployment use the stand-in; return its name."""
        args, spec = self._task.args, {}
        if args["app"]:
            spec = use_stand_in(
                item["spec"]["template"]["spec"], args["secret"], args["stand_in"], args["user"], stand_in
            )
        patch = {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}}}
        path = self._kube.path("Deployment", args["namespace"], item["metadata"]["name"])
        self._kube.request("PATCH", path, patch, content_type="application/strategic-merge-patch+json")
        return item["metadata"]["name"]

    def _wait_for(self, name: str) -> None:
        """Wait until every pod of a Deployment is a new one.

        Raises:
            KubeError: they do not start, or time was up.
        """
        namespace, patience = self._task.args["namespace"], Patience()
        while True:
            state = look_at(self._kube, "Deployment", name, namespace, patience)
            if state.ready:
                return
            if state.failed or time.monotonic() > self._end:
                item = self._kube.get("Deployment", name, namespace) | {"kind": "Deployment"}
                raise KubeError(
                    f"{explain(self._kube, item, state.pods, 30)}\nDeployment {name} did not take the stand-in's "
                    f"login: {state.failed or state.waiting}. No password was changed. Mend it and deploy again, or do "
                    "without: -e secrets_stand_in=false. Logins may then fail for some seconds."
                )
            time.sleep(LOOK_SECONDS)

    def _wait_until_gone(self, secret: str) -> None:
        """Wait until no pod of a Deployment has this Secret any more, those on their way out included."""
        while True:
            pods = self._kube.list("Pod", self._task.args["namespace"], self._selector())
            left = [
                pod["metadata"]["name"]
                for pod in pods
                if pod["status"].get("phase") in ("Pending", "Running")
                and any(owner["kind"] == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences") or [])
                and mounts(pod["spec"], secret)
            ]
            if not left:
                return
            if time.monotonic() > self._end:
                raise KubeError(f"{', '.join(left)}: still there after {self._task.args['timeout']} s. Deploy again.")
            time.sleep(LOOK_SECONDS)


def stand_in_of(user: str) -> str:
    """The name of a role's stand-in; PostgreSQL cuts names at 63 bytes."""
    return f"{user[:50]}_stand_in"


def mounts(pod_spec: dict, secret: str) -> bool:
    """Whether a pod mounts a Secret."""
    return any((volume.get("secret") or {}).get("secretName") == secret for volume in pod_spec.get("volumes") or [])


def use_stand_in(pod_spec: dict, secret: str, stand_in_secret: str, user: str, stand_in: str) -> dict:
    """A strategic merge patch of a pod: the stand-in's Secret instead of the app's, and its name in the environment."""
    return {
        "volumes": [
            {"name": volume["name"], "secret": {"secretName": stand_in_secret}}
            for volume in pod_spec.get("volumes") or []
            if (volume.get("secret") or {}).get("secretName") == secret
        ],
        **{
            kind: [
                {
                    "name": container["name"],
                    "env": [
                        {"name": variable["name"], "value": stand_in}
                        for variable in container.get("env") or []
                        if variable.get("value") == user
                    ],
                }
                for container in pod_spec.get(kind) or []
            ]
            for kind in ("containers", "initContainers")
            if pod_spec.get(kind)
        },
    }
