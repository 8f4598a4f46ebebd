# GNU General Public License v3.0+ (see LICENSE)
"""Finds everything that is wrong before anything is touched: in the variables of all roles, and in the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import (
    checks_backups,
    checks_django,
    checks_ingress,
    checks_registry,
    checks_secrets,
    lease,
    site_id,
    variables,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_cluster import look
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_exporter import check_exporter
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_proxy import check_proxy
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.misspelt import find_misspelt
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase

# Facts that roles hand on, beside the variables of their argument specs.
FACTS = {
    "site_state",
    "site_lease",
    "site_starting",
    "site_secret_checksums",
    "site_labels",
    "site_pod_pull_secrets",
    "site_pod_security_context",
    "site_container_resources",
    "site_container_security_context",
    "site_pod_security_labels",
    "site_prepared_annotation",
    "site_field_manager",
    "secrets_checksums",
    "postgres_host",
    "postgres_starting",
    "postgres_status",
    "django_site_url",
    "django_site_told",
    "image_django",
    "image_nginx",
    "image_postgres",
    "image_postgres_exporter",
}


# The server's data is role storage's, its passwords are role secrets'.
NEEDS = {"postgres": ("storage", "secrets")}


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/preflight.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(
        (
            "kubeconfig",
            "context",
            "roles",
            "roles_path",
            "namespace_labels",
            "prepared_annotation",
            "backups",
            "only_variables",
        )
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        roles = with_needs(args["roles"])
        values, findings = self._check_variables(Path(args["roles_path"]), roles, task_vars or {})
        facts: dict[str, Any] = {}
        notes: list[str] = []
        # What the cluster is asked depends on the variables: with wrong ones the answers would mislead.
        if not findings and not args.get("only_variables"):
            try:
                place = place_of(self, task_vars)
                kube = Kube(**place)
                values["site_prepared_annotation"] = args["prepared_annotation"]
                labels, backups = args["namespace_labels"], bool(args.get("backups"))
                state, findings, notes = look(kube, roles, values, labels, backups)
                facts["site_state"] = state
                if not findings and state["namespace"]["exists"] and not self._task.check_mode:
                    place["namespace"] = values["site_namespace"]
                    mine = ((task_vars or {}).get("site_lease") or {}).get("holder", "")
                    who, refused = lease.acquire(kube, place, mine, values["site_lease_seconds"])
                    facts["site_lease"] = {"namespace": place["namespace"], "holder": who}
                    findings = [refused] if refused else []
            except KubeError as error:
                findings = [str(error)]
        if findings:
            listed = "\n".join(f"  - {finding}" for finding in findings)
            return result | {"failed": True, "msg": f"Nothing was touched. Mend this first:\n{listed}"}
        return result | {"changed": False, "ansible_facts": facts, "warnings": notes}

    def _check_variables(
        self, roles_path: Path, roles: list[str], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """The values of all roles' options, and what is wrong with them."""
        all_roles = sorted(path.parent.parent.name for path in roles_path.glob("*/meta/argument_specs.yml"))
        specs = {role: variables.load_spec(roles_path, role) for role in all_roles}
        defaults: dict[str, Any] = {}
        for role in all_roles:
            file = roles_path / role / "defaults" / "main.yml"
            defaults |= self._loader.load_from_file(str(file), trusted_as_template=True) or {}
        known = set(defaults) | FACTS | {name for spec in specs.values() for name in spec}
        if self._templar.template((defaults | task_vars)["secrets_source"]) == "existing":
            for spec in specs.values():
                for name in checks_secrets.FROM_VAULT:
                    spec.pop(name, None)
        findings = find_misspelt(known, task_vars, all_roles)
        values: dict[str, Any] = {}
        for role in roles:
            own, faults = variables.evaluate(self._templar, defaults, specs[role], task_vars)
            if not faults:
                own, faults = variables.validate(specs[role], own)
            findings += faults + variables.find_blanks(own)
            values |= own
        findings += variables.find_out_of_range(values)
        if not findings:
            findings += checks_django.check_options(values) + checks_backups.check_options(values)
            findings += check_exporter(values) + check_proxy(values) + checks_registry.check_logins(values)
            findings += checks_ingress.check_options(values) + site_id.check_form(values)
        return values, findings


def with_needs(roles: list[str]) -> list[str]:
    """These roles, with those whose part of the site they cannot be looked at without."""
    return list(dict.fromkeys(each for role in roles for each in (role, *NEEDS.get(role, ()))))
