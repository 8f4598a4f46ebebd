# GNU General Public License v3.0+ (see LICENSE)
"""Makes the vault of a site, encrypted with the password of this run; a vault that is there is left alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import site_id
from ansible_collections.kubernetes_django.site.plugins.module_utils.docker_config import logins_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import values_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text, write_encrypted
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

Secrets = dict[str, dict[str, str]]


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/make_vault.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(
        (
            *("path", "header", "values", "recover"),
            *("kubeconfig", "context", "namespace", "site_name", "claim", "volume", "directory"),
        )
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args, path = self._task.args, Path(self._task.args["path"])
        recover = str(args["recover"]).lower()
        if recover not in ("", "true", "reset"):
            return result | {"failed": True, "msg": f"recover: is true or reset, not {recover}. Nothing was touched."}
        if path.exists() and recover != "true":
            return result | {"changed": False}
        try:
            args = args | place_of(self, task_vars)
            secrets, data, answered = look(args)
            refused = refusal(args, recover, secrets, data, answered)
            if refused:
                return result | {"failed": True, "msg": f"{refused} Nothing was touched."}
            values = vault_values(args["values"], secrets, live=recover == "true")
            said = "" if self._task.check_mode else self._write(path, values)
        except (AnsibleError, KubeError) as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": True, "msg": said}

    def _write(self, path: Path, values: dict[str, Any]) -> str:
        """Write the vault; return what to tell of it."""
        lines = [f"# {line}" for line in self._task.args["header"].splitlines()]
        lines += [f"{name}: {json.dumps(value)}" for name, value in values.items()]
        new = write_encrypted(self._loader._vault, path, "---\n" + "\n".join(lines) + "\n")
        said = ""
        if path.exists():
            kept = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
            os.link(path, kept)
            new.replace(path)
            return f"The vault that was there is kept as {kept}."
        # Linked where nothing is: no half of a vault, and no other run's vault is replaced.
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
        return said


def look(args: dict[str, Any]) -> tuple[Secrets, str, bool]:
    """The site's Secrets in the cluster, where there is data of its database, and whether the cluster answered.

    A cluster that does not answer is none yet: preflight looks again, at the vault's id, when it does.
    """
    directory = args["directory"]
    here = directory and Path(directory, "pgdata", "PG_VERSION").is_file()
    data = f"the directory {directory}" if here else ""
    try:
        kube = Kube(args["kubeconfig"], args["context"])
        labels = {PART_OF: args["site_name"]}
        found = kube.list("Secret", args["namespace"], labels)
        if kube.get("PersistentVolumeClaim", args["claim"], args["namespace"]):
            data = f"the claim {args['claim']} in namespace {args['namespace']}"
        elif any(each["metadata"]["name"] == args["volume"] for each in kube.list("PersistentVolume", None, labels)):
            data = f"the volume {args['volume']}"
    except KubeError:
        return {}, data, False
    return {each["metadata"]["name"]: values_of(each) for each in found}, data, True


def refusal(args: dict[str, Any], recover: str, secrets: Secrets, data: str, answered: bool) -> str:
    """Why no vault is made; empty where one is."""
    live = any(each["key"] in secrets.get(each["secret"], {}) for each in args["values"])
    site, namespace, context = args["site_name"], args["namespace"], args["context"]
    if recover == "true":
        if live:
            return ""
        if not answered:
            return (
                f"recover: the vault is written from the site's Secrets, and no cluster answers in context {context}. "
                "Start it with playbooks/cluster.yml, or set cluster_context to one that runs."
            )
        return (
            f"recover: the site {site} has no Secrets in namespace {namespace} of context {context} to write a vault "
            "from. If its data is there, give it new passwords: ansible-playbook playbooks/deploy.yml -e recover=reset."
        )
    if recover == "reset" or not (live or data):
        return ""
    if live:
        return (
            f"The site {site} is in namespace {namespace} of context {context}, and its vault is not here: a new one "
            f"would change all its passwords. Do one of two things: {site_id.CURES.format(vault=args['path'])}."
        )
    asleep = (
        "start the cluster, which does not answer and may still have its Secrets, with playbooks/cluster.yml and have "
        "the vault written from them: ansible-playbook playbooks/vault.yml -e recover=true; or, if it has none, "
    )
    return (
        f"The data of the site {site} is there, {data}, and its vault is not: PostgreSQL would not take the passwords "
        f"of a new one. Copy the vault to {args['path']}, with its password; or, if it is lost, "
        f"{'' if answered else asleep}give the data new passwords: ansible-playbook playbooks/deploy.yml "
        "-e recover=reset. Where the data is of no use, delete it first."
    )


def vault_values(wanted: list[dict[str, Any]], secrets: Secrets, *, live: bool) -> dict[str, Any]:
    """The vault's variables and their values.

    Args:
        wanted: the argument `values`.
        secrets: the site's.
        live: whether their values are taken, where there are any.
    """
    values: dict[str, Any] = {"vault_site_id": secrets.get(site_id.SECRET, {}).get(site_id.KEY) or site_id.new_id()}
    for each in wanted:
        found = secrets.get(each["secret"], {}).get(each["key"]) if live else None
        if found and each["key"] == ".dockerconfigjson":
            found = logins_of(found)
        if found or each["length"]:
            values[each["name"]] = found or random_text(each["length"])
    return values
