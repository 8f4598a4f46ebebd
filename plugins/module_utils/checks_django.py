# GNU General Public License v3.0+ (see LICENSE)
"""What preflight has to know of role django: whether its options fit together, and what the cluster still has."""

from __future__ import annotations

import math
import re
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_ingress import ingress_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import FIELD_MANAGER, PART_OF
from ansible_collections.kubernetes_django.site.plugins.module_utils.rights import Right
from ansible_collections.kubernetes_django.site.plugins.module_utils.rights import rights as rights_to
from ansible_collections.kubernetes_django.site.plugins.module_utils.server_settings import DEFAULT_MAX_CONNECTIONS
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

NAME = "app.kubernetes.io/name"
# Volumes of the role's own.
TAKEN_VOLUMES = {
    "django",
    "django-fallbacks",
    "metrics",
    "postgres",
    "postgres-ca",
    "postgres-owner",
    "proxy",
    "proxy-config",
    "tmp",
}


def check_options(values: dict[str, Any]) -> list[str]:
    """What is wrong with the options of role django together.

    Args:
        values: the options of all roles that are checked, of the types that the argument specs say.
    """
    findings = check_secret_key(values)
    if "django_processes" not in values:
        return findings
    findings += check_processes(values["django_processes"]) + check_volumes(values) + check_autoscaler(values)
    findings += check_migrations(values)
    if not re.fullmatch(r"\d+%?", str(values["django_max_surge"])):
        findings.append(
            f"django_max_surge: {values['django_max_surge']!r} is neither a number of pods nor a percentage of them. "
            "Set it to something like 1 or 25%."
        )
    if not findings and "postgres_settings" in values:
        findings += check_connections(values)
    return findings


def check_autoscaler(values: dict[str, Any]) -> list[str]:
    """Numbers of pods that make sense, and something that the percentage is of."""
    autoscaler, findings = autoscaler_of(values), []
    if not autoscaler:
        return []
    least, most = autoscaler.get("minimum", 2), autoscaler.get("maximum", 0)
    if not 1 <= least <= most <= 1000:
        findings.append(
            f"django_autoscaler: minimum {least} and maximum {most}: both go from 1 to 1000, and the maximum is not "
            "below the minimum."
        )
    if "cpu" not in (values["django_resources"].get("requests") or {}):
        findings.append(
            "django_autoscaler: its percentage is of requests.cpu in django_resources, which is missing. Set it."
        )
    return findings


def check_migrations(values: dict[str, Any]) -> list[str]:
    """Hooks, lock and target that go with the way the site migrates."""
    findings = []
    hooks = [name for name in ("django_before_migrate", "django_after_migrate") if values[name]]
    if hooks and values["django_migrations"] == "startup":
        findings.append(
            f"{' and '.join(hooks)}: with django_migrations startup the pods migrate by themselves, with nothing "
            "before or after it. Set django_migrations to job, or put the commands into django_command."
        )
    if values["django_migrate_lock"] and "migrate_locked" in values["django_migrate_command"]:
        findings.append(
            "django_migrate_lock: migrate_locked takes the lock itself and would wait for this one. Set it to false."
        )
    # With a space between the two, -e on the command line would take the app for all of it.
    if not re.fullmatch(r"(\w+\.\w+)?", values["django_migrate_target"]):
        findings.append(
            f"django_migrate_target: {values['django_migrate_target']!r} is not an app and a migration of it with a "
            "dot between them, such as notes.0003 or notes.zero."
        )
    return findings


def check_secret_key(values: dict[str, Any]) -> list[str]:
    """As Django's own check has it (security.W009)."""
    key = values.get("secrets_django_secret_key")
    if key is None or (len(key) >= 50 and len(set(key)) >= 5):
        return []
    return [
        "secrets_django_secret_key: must have at least 50 characters, 5 of them different. Set another one with "
        "ansible-vault edit group_vars/all/vault.yml, or have one made: playbooks/rotate_credentials.yml."
    ]


def check_processes(processes: list[dict[str, Any]]) -> list[str]:
    """Names that a Deployment can have, each once, and numbers that make sense."""
    findings = []
    names = [process["name"] for process in processes]
    for process in processes:
        name = process["name"]
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?", name) or name in ("web", "migrations"):
            findings.append(
                f"django_processes: {name!r} must be at most 30 lower-case letters, digits and hyphens, begin with a "
                "letter, and be neither web nor migrations."
            )
        if not process["command"]:
            findings.append(f"django_processes: {name} has no command.")
        for key, (low, high) in {
            "replicas": (0, 1000),
            "connections": (0, 10000),
            "ready_seconds": (0, 600),
            "stop_seconds": (1, 86400),
        }.items():
            if process.get(key) is not None and not low <= process[key] <= high:
                findings.append(f"django_processes: {name}: {key} goes from {low} to {high}, not {process[key]}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    return findings + [f"django_processes: {name} is there twice." for name in twice]


def check_volumes(values: dict[str, Any]) -> list[str]:
    """Every mount has its volume, and every volume a name of its own and a kind that Pod Security lets in."""
    findings = []
    names = [volume.get("name") for volume in values["django_volumes"]]
    for volume in values["django_volumes"]:
        name = volume.get("name")
        if not name or name in TAKEN_VOLUMES or names.count(name) > 1:
            findings.append(
                f"django_volumes: {volume} needs a name of its own, other than {', '.join(sorted(TAKEN_VOLUMES))}."
            )
        if "hostPath" in volume:
            findings.append(
                f"django_volumes: {name} is a hostPath, which Pod Security restricted refuses. Make a "
                "PersistentVolumeClaim and name it: {persistentVolumeClaim: {claimName: …}}."
            )
    for mount in values["django_volume_mounts"]:
        if mount.get("name") not in names or not str(mount.get("mountPath", "")).startswith("/"):
            findings.append(
                f"django_volume_mounts: {mount} needs a mountPath, and the name of one of django_volumes "
                f"({', '.join(map(str, names)) or 'there is none'})."
            )
    return findings


def check_connections(values: dict[str, Any]) -> list[str]:
    """The connections that all pods may open must fit into what the server allows."""
    cores = (values["django_resources"].get("limits") or {}).get("cpu", "1")
    cores = float(cores[:-1]) / 1000 if cores.endswith("m") else float(cores)
    # As webapp/gunicorn.conf.py does it.
    each = values["django_connections"] or 4 * max(2, math.ceil(cores))
    processes, pods = values["django_processes"], most_pods(values)
    # More pods during a rollout, one of each process, and the migrations.
    surge = str(values["django_max_surge"])
    more = math.ceil(pods * int(surge[:-1]) / 100) if surge.endswith("%") else int(surge)
    needed = (pods + more) * each + (2 if values["django_migrate_lock"] else 1)
    needed += sum((process["replicas"] + 1) * process["connections"] for process in processes if process["replicas"])
    allowed = int(values["postgres_settings"].get("max_connections", DEFAULT_MAX_CONNECTIONS)) - 3
    if needed <= allowed:
        return []
    variable = "maximum in django_autoscaler" if autoscaler_of(values) else "django_replicas"
    others = f", those of {', '.join(process['name'] for process in processes)}" if processes else ""
    return [
        f"{variable}: {pods} pods{others}, {more} more during a rollout, and the migrations may open {needed} "
        f"connections ({each} a pod); PostgreSQL allows {allowed}. Raise max_connections in postgres_settings, "
        f"or lower {variable} or the pods' limit of cores."
    ]


def rights(values: dict[str, Any]) -> list[Right]:
    """What the options ask for, beside what every deploy does."""
    wanted: list[Right] = []
    if "django_processes" not in values:
        return wanted
    if autoscaler_of(values):
        wanted += rights_to("autoscaling", "horizontalpodautoscalers", "get create patch")
    if ingress_of(values):
        wanted += rights_to("networking.k8s.io", "ingresses", "get create patch")
    if has_budget(values):
        wanted += rights_to("policy", "poddisruptionbudgets", "get create patch")
    return wanted


def autoscaler_of(values: dict[str, Any]) -> dict[str, int]:
    """What was given of the autoscaler; validation puts None for the rest. Empty for none."""
    return {key: value for key, value in values["django_autoscaler"].items() if value is not None}


def most_pods(values: dict[str, Any]) -> int:
    """How many web pods there may be, outside rollouts."""
    return autoscaler_of(values).get("maximum") or values["django_replicas"]


def has_budget(values: dict[str, Any]) -> bool:
    """Whether the web pods have a PodDisruptionBudget: over a single pod it would protect nothing."""
    return values["django_disruptions"] > 0 and most_pods(values) > 1


def look_at_django(site: SiteState) -> Found:
    """What of role django's is in the cluster.

    Returns:
        `web`: exists, whether there is a release: before the first one nobody can be hurt by the order in which things
        start; leftovers, the objects that the options no longer ask for, as manifests to delete; replicas_to_keep, the
        number of web pods that an earlier deploy set and the autoscaler now has to keep, 0 for none.

    Raises:
        KubeError: no answer.
    """
    values, namespace, name = site.values, site.values["site_namespace"], site.values["django_name"]
    web: dict[str, Any] = {"exists": False, "leftovers": [], "replicas_to_keep": 0}
    if not site.namespace:
        return {"web": web}, []
    web["exists"] = site.get("Deployment", name) is not None
    wanted = {f"{name}-{process['name']}" for process in values["django_processes"]} | {name}
    deployments = [item for _, _, item in listed(site, "apps/v1", "Deployment")]
    surplus = [("apps/v1", "Deployment", item) for item in deployments if item["metadata"]["name"] not in wanted]
    if not autoscaler_of(values):
        surplus += listed(site, "autoscaling/v2", "HorizontalPodAutoscaler")
    elif live := next((item for item in deployments if item["metadata"]["name"] == name and sets_replicas(item)), None):
        web["replicas_to_keep"] = live["spec"]["replicas"]
    if not ingress_of(values):
        surplus += listed(site, "networking.k8s.io/v1", "Ingress")
    if not has_budget(values):
        surplus += listed(site, "policy/v1", "PodDisruptionBudget")
    web["leftovers"] = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": item["metadata"]["name"], "namespace": namespace}}
        for version, kind, item in surplus
    ]
    return {"web": web}, []


def listed(site: SiteState, version: str, kind: str) -> list[tuple[str, str, dict]]:
    """The objects of a kind, with version and kind; none for an account that may not look: it has made none either."""
    selector = {PART_OF: site.values["site_name"], NAME: site.values["django_name"]}
    found = site.kube.list_if_allowed(kind, site.values["site_namespace"], selector)
    return [(version, kind, item) for item in found or []]


def sets_replicas(deployment: dict) -> bool:
    """Whether an earlier deploy set the number of pods: leaving it out would then mean one, not what is there."""
    return any(
        entry.get("manager") == FIELD_MANAGER and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in deployment["metadata"].get("managedFields") or []
    )
