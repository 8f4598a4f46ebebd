# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the logins that images are pulled with."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

TYPE = "kubernetes.io/dockerconfigjson"


def check_logins(values: dict[str, Any]) -> list[str]:
    """Logins that no registry could be asked with."""
    logins = values.get("secrets_registry_logins") or []
    servers = [login["server"] for login in logins]
    findings = [
        f"secrets_registry_logins: {server!r} must be the host of a registry, with its port where images are named"
        " by one, such as registry.example.org:5000, and no scheme."
        for server in servers
        if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._/-]+)?", server)
    ]
    findings += [
        f"secrets_registry_logins: there are several for {server}. Keep one of them."
        for server in sorted({server for server in servers if servers.count(server) > 1})
    ]
    for login in logins:
        findings += [
            f"secrets_registry_logins: the {key} for {login['server']} {fault}. Mend it in the vault:"
            " ansible-vault edit group_vars/all/vault.yml"
            for key in ("username", "password")
            if (fault := blank(login[key]))
        ]
    return findings


def blank(text: str) -> str:
    """What is wrong with the ends of a name or a password, or nothing."""
    if not text:
        return "is empty"
    return "begins or ends with white space or a newline" if text != text.strip() else ""


def check_pull_secrets(site: SiteState) -> Found:
    """Secrets that pods name and kubelet cannot use: it would try without, and say that the registry refused."""
    values, namespace, findings = site.values, site.values["site_namespace"], []
    # reset.yml, which asks for fewer roles' options, knows the vault's logins by those of role storage.
    made = {values["secrets_registry"]} if values.get("secrets_registry_logins") else set()
    made |= set(values.get("storage_registry_logins") or {})
    namespace_first = "" if site.namespace else f"`kubectl create namespace {namespace}`, then "
    for name in values.get("site_pull_secrets") or []:
        secret = site.get("Secret", name)
        if secret and secret["type"] != TYPE:
            findings.append(
                f"site_pull_secrets: the Secret {name} in namespace {namespace} is of type {secret['type']}, and logins"
                f" to registries are read from {TYPE} alone. Delete it and make it with `kubectl create secret"
                " docker-registry`, or choose another name."
            )
        elif secret is None and name not in made:
            findings.append(
                f"site_pull_secrets: there is no Secret {name} in namespace {namespace}. Make it:"
                f" {namespace_first}`kubectl --namespace {namespace} create secret docker-registry {name}"
                " --docker-server=… --docker-username=… --docker-password=…`, or put the login into the vault"
                " (secrets_registry_logins)."
            )
    return {}, findings
