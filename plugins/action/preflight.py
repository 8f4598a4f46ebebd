"""Finds everything that is wrong before anything is touched: in the variables of all roles, and in the cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import (
    checks_backups,
    checks_django,
    checks_ingress,
    checks_network,
    checks_registry,
    checks_secrets,
    checks_upgrade,
    lease,
    releases,
    rights,
    site_id,
    variables,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.addresses import is_local
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_backups import check_backups
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_exporter import check_exporter
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_pods import check_priority_class
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_postgres import check_postgres
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_proxy import check_proxy
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_volume import check_volume, holds_data
from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed import keyed_checksum
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import values_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import job_ended

from ansible.plugins.action import ActionBase

# Facts that roles hand on, beside the variables of their argument specs.
FACTS = {
    "site_exists",
    "site_namespace_current",
    "site_namespace_is_ours",
    "site_namespace_kinds",
    "site_serving",
    "site_pending",
    "site_starting",
    "site_node_urls",
    "site_minikube",
    "site_node_is_here",
    "site_completed_jobs",
    "site_failed_jobs",
    "storage_volume_prepared",
    "storage_volume_released",
    "storage_volume_current",
    "storage_volume_grows",
    "storage_volume_namespace_left",
    "site_django_leftovers",
    "site_ingress_needs_certificate",
    "site_django_replicas",
    "site_secrets",
    "site_identity",
    "site_lease",
    "site_labels",
    "site_pod_pull_secrets",
    "site_pod_security_context",
    "site_container_resources",
    "site_container_security_context",
    "site_pod_security_labels",
    "site_prepared_annotation",
    "site_field_manager",
    "site_database",
    "site_rotation",
    "secrets_checksums",
    "postgres_host",
    "postgres_status",
    "django_site_url",
    "django_site_told",
    "image_django",
    "image_nginx",
    "image_postgres",
    "image_postgres_exporter",
    *checks_backups.FACTS,
    *checks_upgrade.FACTS,
}
# The native sleep of preStop is on by default from here on.
OLDEST_KUBERNETES = (1, 30)
# Smallest and largest values that make sense; argument specs know no ranges.
RANGES = {
    "site_wait_timeout": (1, 86400),
    "site_node_patience": (0, 86400),
    "site_log_lines": (1, 10000),
    "site_lease_seconds": (5, lease.LONGEST_SECONDS),
    "storage_uid": (1, 2**31),
    "postgres_port": (1, 65535),
    "postgres_uid": (1, 2**31),
    "postgres_stop_seconds": (10, 3600),
    "postgres_tls_days": (1, 3000),
    "postgres_tls_renew_days": (0, 2999),
    "postgres_backup_keep": (1, 10000),
    "postgres_backup_keep_days": (0, 36500),
    "postgres_backup_minimum": (1, 10000),
    "postgres_backup_deadline": (0, 604800),
    "postgres_archive_seconds": (10, 3600),
    "postgres_archive_days": (1, 36500),
    "django_port": (1, 65535),
    "django_connections": (0, 10000),
    "django_node_port": (1, 65535),
    "django_proxy_port": (1024, 65535),
    "django_proxy_connections": (64, 65536),
    "django_proxy_client_connections": (0, 65536),
    "django_proxy_header_kilobytes": (8, 256),
    "django_proxy_header_seconds": (1, 600),
    "django_proxy_body_megabytes": (1, 102400),
    "django_proxy_silence_seconds": (1, 600),
    "django_proxy_answer_seconds": (1, 86400),
    "django_trusted_proxies": (0, 10),
    "django_private_port": (1024, 65535),
    "django_logins_per_minute": (0, 6000),
    "django_metrics_port": (1024, 65535),
    "django_replicas": (1, 1000),
    "django_disruptions": (0, 1000),
    "django_drain_seconds": (0, 600),
    "django_stop_seconds": (15, 3600),
    "django_progress_seconds": (10, 3600),
    "django_migrations_backoff_limit": (0, 100),
    "django_migrations_deadline": (1, 86400),
    "django_migrations_ttl": (60, 2**31),
    "django_history": (1, 100),
    "django_uid": (1, 2**31),
}


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
        values, findings = self._check_variables(Path(args["roles_path"]), args["roles"], task_vars or {})
        facts = {}
        # What the cluster is asked depends on the variables: with wrong ones the answers would mislead.
        if not findings and not args.get("only_variables"):
            try:
                kube = Kube(args["kubeconfig"], args["context"])
                values["site_prepared_annotation"] = args["prepared_annotation"]
                facts, findings = check_cluster(kube, values, args["namespace_labels"], bool(args.get("backups")))
                if not findings and facts["site_exists"] and not self._task.check_mode:
                    place = {key: args[key] for key in ("kubeconfig", "context")}
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
        notes = facts.pop("site_notes", [])
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
        findings = variables.find_misspelt(known, task_vars, all_roles)
        values: dict[str, Any] = {}
        for role in roles:
            own, faults = variables.evaluate(self._templar, defaults, specs[role], task_vars)
            if not faults:
                own, faults = variables.validate(specs[role], own)
            findings += faults + variables.find_blanks(own)
            values |= own
        findings += [
            f"{name}: {values[name]} is out of range, it goes from {low} to {high}."
            for name, (low, high) in RANGES.items()
            if isinstance(values.get(name), int) and not low <= values[name] <= high
        ]
        if not findings:
            findings += checks_django.check_options(values) + checks_backups.check_options(values)
            findings += check_exporter(values) + check_proxy(values) + checks_registry.check_logins(values)
            findings += checks_ingress.check_options(values) + site_id.check_form(values)
        return values, findings


def check_cluster(
    kube: Kube, values: dict[str, Any], labels: dict[str, str], backups: bool
) -> tuple[dict[str, Any], list[str]]:
    """What the roles need to know of the cluster, and what stands in their way.

    Args:
        kube: the connection.
        values: the options of all roles.
        labels: the labels that the namespace is to have.
        backups: whether this run works with backups.

    Raises:
        KubeError: no answer, or no right to look.
    """
    site, name = values["site_name"], values["site_namespace"]
    version = kube.request("GET", "/version")
    asked = rights.EVERY_DEPLOY + rights.wanted(values) + checks_django.rights(values)
    findings = check_version(version) + check_rights(kube, name, asked)
    if findings:
        # Without the right to look, what follows would only say so again.
        return {}, findings
    namespace = kube.get("Namespace", name)
    facts, namespace_findings = check_namespace(kube, namespace, site, name, labels)
    findings += namespace_findings
    nodes = kube.list_if_allowed("Node") or []
    facts |= node_facts(nodes)
    facts["site_notes"] = facts.get("site_notes", []) + checks_network.note_who_enforces(kube, values, nodes)
    if "namespace_quota" in values:
        kinds = ("NetworkPolicy", "ResourceQuota", "LimitRange") if namespace else ()
        facts["site_namespace_kinds"] = [kind for kind in kinds if kube.list_if_allowed(kind, name, {PART_OF: site})]
    if "django_name" in values:
        # Before the first release nobody can be hurt by the order in which things start.
        facts["site_serving"] = bool(namespace and kube.get("Deployment", values["django_name"], name))
    if "storage_kind" in values:
        facts |= checks_upgrade.find_data(kube, values, namespace is not None)
        volume_facts, volume_findings = check_volume(kube, values, "storage", namespace is not None)
        facts |= {f"storage_volume_{name}": value for name, value in volume_facts.items()}
        findings += volume_findings
    if "postgres_backup_kind" in values:
        backup_facts, backup_findings = check_backups(kube, values, namespace is not None, wanted=backups)
        facts |= backup_facts
        findings += backup_findings
    if "django_node_port" in values:
        findings += check_node_port(kube, values["django_node_port"], name, values["django_service"])
    facts |= checks_django.look(kube, values, namespace is not None)
    secrets = read_secrets(kube, name, site) if namespace else {}
    if values.get("secrets_source") == "existing":
        existing, missing = checks_secrets.read_existing(kube, values, namespace is not None)
        if missing:
            return facts, findings + missing
        findings += checks_django.check_secret_key(values) + checks_backups.check_encryption(values)
        secrets |= existing
    # A site can be taken away whosever vault is here.
    if "namespace_quota" in values:
        facts["site_identity"], id_findings = site_id.check_site_id(values, secrets)
        if id_findings:
            # With another site's vault, what follows would say of each password that it is wrong.
            return facts, findings + id_findings
    # As role secrets has it. A playbook that knows no key compares nothing.
    key = values.get("secrets_django_secret_key") or random_text(40)
    facts["site_secrets"] = {secret: keyed_checksum(data, key) for secret, data in secrets.items()}
    ingress_facts, ingress_findings = checks_ingress.check_ingress(kube, values, secrets, namespace is not None)
    facts |= ingress_facts
    findings += checks_registry.check_pull_secrets(kube, values, namespace is not None)
    findings += ingress_findings + check_priority_class(kube, values.get("site_priority_class", ""))
    if "postgres_settings" in values:
        kept = facts["storage_volume_prepared"] or (facts["site_node_is_here"] and holds_data(values))
        database_facts, database_findings = check_postgres(kube, values, secrets, namespace is not None, kept)
        facts |= database_facts
        findings += database_findings
    if values["site_preflight_upgrade"]:
        upgrade_facts, upgrade_findings = checks_upgrade.check_upgrade(kube, values, namespace is not None, facts)
        facts |= upgrade_facts
        findings += upgrade_findings
    jobs = kube.list("Job", name, {PART_OF: site}) if namespace else []
    if "namespace_quota" in values:
        closed = facts.get("site_database", {}).get("closed", False)
        findings += checks_upgrade.check_unfinished(values, jobs, closed)
    facts["site_completed_jobs"] = completed_jobs(jobs, releases.migrated(kube, site, name) if namespace else [])
    # One whose pod never ran (no image, no node) would go on waiting for its next try; one that runs is left alone.
    facts["site_failed_jobs"] = [
        job["metadata"]["name"]
        for job in jobs
        if job_ended(job) == "Failed" or (job_ended(job) is None and not job["status"].get("ready"))
    ]
    return facts, findings


def completed_jobs(jobs: list[dict], migrated: list[str]) -> list[str]:
    """Names of the Jobs that are Complete, with those that are gone and that releases say were Complete.

    A first release is made beside its migrations, so it says so too soon: a Job that is there speaks for itself.
    """
    ended = {job["metadata"]["name"]: job_ended(job) for job in jobs}
    return [name for name in sorted(ended | dict.fromkeys(migrated)) if ended.get(name, "Complete") == "Complete"]


def read_secrets(kube: Kube, namespace: str, site: str) -> dict[str, dict[str, str]]:
    """Name of each Secret of the site -> its keys and values."""
    return {secret["metadata"]["name"]: values_of(secret) for secret in kube.list("Secret", namespace, {PART_OF: site})}


def check_version(version: dict[str, str]) -> list[str]:
    """The server must be new enough for what the templates use."""
    found = (int(version["major"]), int(version["minor"].rstrip("+")))
    if found >= OLDEST_KUBERNETES:
        return []
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    return [f"cluster_context: this cluster runs Kubernetes {version['gitVersion']}; it must be {oldest} or newer."]


def check_namespace(
    kube: Kube, namespace: dict | None, site: str, name: str, labels: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The namespace must be this site's, or nobody's; or given to it as it is, by an administrator.

    Args:
        kube: the connection.
        namespace: the namespace, or None where it has to be made.
        site: the site's name.
        name: the namespace's.
        labels: those that it is to have. The site works without them, where this account may not set them.

    Returns:
        facts, with `site_notes` for people; and findings.
    """
    if namespace is None:
        missing_rights = check_rights(kube, name, rights.TO_MAKE_THE_NAMESPACE)
        return {"site_exists": False, "site_namespace_current": False, "site_namespace_is_ours": False}, missing_rights
    found = namespace["metadata"].get("labels") or {}
    missing = {key: value for key, value in labels.items() if found.get(key) != value}
    is_given = bool(missing and rights.denied(kube, name, rights.TO_LABEL_THE_NAMESPACE))
    facts = {
        "site_exists": True,
        "site_namespace_current": is_given or not missing,
        "site_namespace_is_ours": found.get(PART_OF) == site,
        "site_notes": [note_of_labels(name, missing)] if is_given else [],
    }
    if namespace["status"].get("phase") == "Terminating":
        return facts, [f"site_namespace: {name} is being deleted. Wait for its end, then run again."]
    owner = found.get(PART_OF)
    if owner not in (None, site):
        another = "Give this site a namespace of its own."
        return facts, [f"site_namespace: {name} belongs to the site {owner}, not to {site}. {another}"]
    return facts, [] if owner or is_given else check_strangers(kube, site, name)


def check_strangers(kube: Kube, site: str, name: str) -> list[str]:
    """Pods that are not the site's would be held to its rules."""
    strangers = [
        p["metadata"]["name"]
        for p in kube.list("Pod", name)
        if (p["metadata"].get("labels") or {}).get(PART_OF) != site
    ]
    if not strangers:
        return []
    return [
        f"site_namespace: {name} runs pods that are not this site's ({', '.join(strangers[:3])}), and would be "
        "made to enforce Pod Security restricted. Give this site a namespace of its own."
    ]


def note_of_labels(name: str, missing: dict[str, str]) -> str:
    """What an administrator may do for a namespace that this account may not label."""
    labels = " ".join(f"{key}={value}" for key, value in missing.items())
    return (
        f"The user of this context may not label namespace {name}: Pod Security restricted is not enforced in it, and "
        f"nothing keeps another site out. An administrator can: kubectl label --overwrite namespace {name} {labels}"
    )


def check_rights(kube: Kube, name: str, asked: list[rights.Right]) -> list[str]:
    """The user of the context must be allowed to do what the roles do."""
    denied = rights.denied(kube, name, asked)
    if not denied:
        return []
    return [
        f"cluster_context: the user of context {kube.context} may not {rights.in_words(denied)} in namespace {name}. "
        "Ask for these rights, or name a context whose user has them."
    ]


def check_node_port(kube: Kube, port: int, namespace: str, service_name: str) -> list[str]:
    """The node port must be free, or this Service's already."""
    # A namespaced account may not look elsewhere; the API server refuses a port that is taken.
    for service in kube.list_if_allowed("Service") or []:
        owner = (service["metadata"]["namespace"], service["metadata"]["name"])
        ports = [entry.get("nodePort") for entry in service["spec"].get("ports") or []]
        if port in ports and owner != (namespace, service_name):
            return [
                f"django_node_port: {port} is taken by the Service {owner[1]} in namespace {owner[0]}. Choose another."
            ]
    return []


def node_facts(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the roles need to know of the nodes; of an account that may not see them, nothing is assumed.

    Args:
        nodes: as the API server tells them; none for such an account.

    Returns:
        `site_node_urls`, where node ports may answer, without a port; `site_minikube`, the profile of minikube, or
        nothing; `site_node_is_here`, whether a directory of the one node is a directory of ours.
    """
    addresses = [
        address["address"]
        for node in nodes
        for address in node["status"].get("addresses") or []
        if address["type"] == "InternalIP"
    ]
    here = [address for address in addresses if is_local(address)]
    hosts = (["127.0.0.1"] if here else []) + (here or addresses)[:1]
    labels = nodes[0]["metadata"].get("labels") or {} if nodes else {}
    return {
        "site_node_urls": [f"http://[{host}]" if ":" in host else f"http://{host}" for host in hosts],
        "site_minikube": labels.get("minikube.k8s.io/name", ""),
        "site_node_is_here": len(nodes) == 1 and bool(here) and os.geteuid() == 0,
    }
