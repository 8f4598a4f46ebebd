# GNU General Public License v3.0+ (see LICENSE)
"""What the backups need to know of the cluster, and what stands in their way."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.age_keys import is_public_key, public_key
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_volume import check_volume
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

SCHEDULES = ("postgres_backup_schedule", "postgres_drill_schedule")
# As Kubernetes takes them: five fields, or a word.
SCHEDULE = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[\d*/,-]+( +[\dA-Za-z*/,?-]+){4}")

# An Ed25519 key, as PEM has it between its lines.
PUBLIC_KEY = re.compile(r"MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=")


def check_options(values: dict[str, Any]) -> list[str]:
    """What is wrong with the options of backups, whatever the cluster is.

    Args:
        values: the options of all roles that are checked, of the types that the argument specs say.
    """
    findings = check_schedules(values) + check_deadline(values) + check_signing(values)
    return findings + check_encryption(values) + check_s3(values)


def check_schedules(values: dict[str, Any]) -> list[str]:
    """A schedule that Kubernetes would refuse."""
    return [
        f"{name}: {values[name]!r} is no schedule. Write five fields as cron does, such as '0 3 * * *', or @daily; "
        "empty for none."
        for name in SCHEDULES
        if values.get(name) and not SCHEDULE.fullmatch(values[name])
    ]


def check_deadline(values: dict[str, Any]) -> list[str]:
    """A deadline that no pod could keep, for it begins with the pod's start; 0 is none."""
    seconds = values.get("postgres_backup_deadline", 0)
    if not 0 < seconds < 60:
        return []
    return [f"postgres_backup_deadline: {seconds} is out of range, it goes from 60 to 604800; 0 follows from the size."]


def check_signing(values: dict[str, Any]) -> list[str]:
    """A schedule without a key to sign with, and keys that are none."""
    findings = []
    in_vault = values.get("secrets_source") == "vault"
    if in_vault and values.get("postgres_backup_schedule") and not values.get("secrets_backup_signing_key"):
        findings.append(
            "secrets_backup_signing_key: is not set, and backups are signed with it. Add vault_backup_signing_key to "
            "the vault, 64 random letters and digits: ansible-vault edit group_vars/all/vault.yml"
        )
    findings += [
        f"postgres_backup_trusted_keys: {key!r} is no public key. Copy the one that playbooks/backup.yml of the other "
        "site tells."
        for key in values.get("postgres_backup_trusted_keys") or []
        if not PUBLIC_KEY.fullmatch(key)
    ]
    return findings


def check_encryption(values: dict[str, Any]) -> list[str]:
    """Keys that are none, and drills that could not read what they are to prove."""
    recipients, identity = values.get("postgres_backup_recipients") or [], values.get("secrets_backup_identity") or ""
    findings = [
        f"postgres_backup_recipients: {key!r} is no public key of age. Copy the one that age-keygen tells: age1 and 58 "
        "characters."
        for key in recipients
        if not is_public_key(key)
    ]
    lines = [line.strip() for line in identity.splitlines()]
    try:
        own = {public_key(line) for line in lines if line and not line.startswith("#")}
    except ValueError:
        return [
            *findings,
            "secrets_backup_identity: a line of it is no private key of age. Mend vault_backup_identity in the vault, "
            "AGE-SECRET-KEY-1 and 58 characters a line: ansible-vault edit group_vars/all/vault.yml",
        ]
    # Where somebody else makes the Secrets it is read later, and looked at then.
    known = identity or values.get("secrets_source") == "vault"
    if known and recipients and not findings and values.get("postgres_drill_schedule") and not own & set(recipients):
        findings.append(
            "postgres_drill_schedule: a drill reads the latest backup, and vault_backup_identity "
            f"{'fits none of postgres_backup_recipients' if own else 'is not set'}. Add the private key of one of them "
            "to the vault, or leave the schedule empty: then only playbooks/restore_drill.yml -e @FILE makes drills."
        )
    return findings


def check_s3(values: dict[str, Any]) -> list[str]:
    """Settings of S3 that need each other."""
    findings = []
    if endpoint := values.get("postgres_backup_s3_endpoint"):
        if not values["postgres_backup_s3_bucket"]:
            findings.append("postgres_backup_s3_bucket: is empty. Name the bucket that the backups go to.")
        if not endpoint.startswith(("http://", "https://")):
            findings.append(f"postgres_backup_s3_endpoint: {endpoint!r} must be a URL, such as https://s3.example.org.")
        elif endpoint.startswith("http://") and not values["postgres_backup_s3_plain"]:
            findings.append(
                f"postgres_backup_s3_endpoint: {endpoint} is no https:// address, and "
                "whoever is on the way reads the backups. Use one, or say postgres_backup_s3_plain: true."
            )
        findings += [
            f"{name}: is not set. Add it to the vault: ansible-vault edit group_vars/all/vault.yml"
            for name in ("secrets_backup_s3_access_key", "secrets_backup_s3_secret_key")
            if not values.get(name)
        ]
    if values.get("postgres_backup_s3_ca") and "BEGIN CERTIFICATE" not in values["postgres_backup_s3_ca"]:
        findings.append(
            "postgres_backup_s3_ca: is no certificate, PEM. Set it, for one with lookup('ansible.builtin.file', …), or "
            "leave it empty."
        )
    in_s3 = values.get("postgres_archive") and values.get("postgres_archive_storage") == "s3"
    if in_s3 and not values["postgres_backup_s3_endpoint"].startswith("https://"):
        findings.append(
            "postgres_archive_storage: s3 needs a postgres_backup_s3_endpoint that begins with https://. pgBackRest, "
            "which keeps the archive, speaks nothing else. Set it, or let the archive be on the volume."
        )
    return findings


def check_backups(site: SiteState) -> Found:
    """What runs that has to do with backups, and their volume.

    Returns:
        `jobs`: scheduled, the names of the CronJobs; `server`: image and replicas of the one that is there; `web`:
        release, the live one's label; `backups`: volume, as `check_volume` has it, where something needs it; and the
        findings.
    """
    values = site.values
    server = site.get("StatefulSet", values["postgres_name"])
    web = site.get("Deployment", values["django_name"]) if site.backups else None
    state: dict[str, Any] = {
        "jobs": {"scheduled": [job["metadata"]["name"] for job in site.list_own("CronJob")]},
        "server": {"image": image_of(server), "replicas": server["spec"]["replicas"] if server else 0},
        "web": {"release": re.sub("^.*[:@]", "", image_of(web))},
    }
    findings: list[str] = []
    if site.backups or values["postgres_archive"] or any(values[name] for name in SCHEDULES):
        volume, findings = check_volume(site, "postgres_backup")
        state["backups"] = {"volume": volume}
    if server and values["postgres_archive"] and values["postgres_archive_storage"] == "volume":
        findings += check_node(site.kube, values)
    return state, findings


def check_node(kube: Kube, values: dict[str, Any]) -> list[str]:
    """The server cannot start with its archive on a claim that another node has.

    Args:
        kube: the connection.
        values: the roles' variables.
    """
    namespace, name = values["site_namespace"], values["postgres_backup_claim"]
    claim = kube.get("PersistentVolumeClaim", name, namespace)
    if claim is None or "ReadWriteMany" in claim["spec"]["accessModes"]:
        return []
    pods = [pod for pod in kube.list("Pod", namespace) if pod["status"].get("phase") in ("Pending", "Running")]
    nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in pods}
    home = nodes.get(f"{values['postgres_name']}-0")
    return [
        f"postgres_archive: the claim {name} is on one node at a time (ReadWriteOnce). Pod {pod['metadata']['name']} "
        f"has it on node {pod['spec']['nodeName']}, and the server, which keeps its archive on it, is on {home}. Wait "
        "for the pod's end, or let the archive be in the bucket (postgres_archive_storage: s3)."
        for pod in pods
        if home and pod["spec"].get("nodeName") not in (None, home) and name in claims_of(pod)
    ][:1]


def claims_of(pod: dict) -> set[str]:
    """The names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes") or []
    return {each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each}


def image_of(workload: dict | None) -> str:
    """The image of a workload's first container, or nothing."""
    return workload["spec"]["template"]["spec"]["containers"][0]["image"] if workload else ""
