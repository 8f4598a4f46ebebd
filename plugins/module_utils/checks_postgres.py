# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the database in the cluster: its certificate, its settings, its passwords."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import checks_upgrade, server_settings
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_volume import holds_data
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import (
    RECONCILED,
    Database,
    database_of,
    is_running,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

Secrets = dict[str, dict[str, str]]


def check_postgres(site: SiteState) -> Found:
    """What role postgres needs to know, and what stands in its way."""
    values, secrets = site.values, site.secrets
    if values["postgres_backend"] == "external":
        return look_at_external(values, secrets), check_external(site)
    database = database_of(site.kube, values)
    pod = site.get("Pod", database.pod)
    running = is_running(pod)
    facts = look_at_server(database, pod) | check_certificate(secrets, values)
    # A volume that was kept without the namespace has data whose passwords may be others.
    kept = site.state["data"]["volume"]["prepared"] or (site.state["nodes"]["is_here"] and holds_data(values))
    facts["is_new"] = not (kept or running or site.get("PersistentVolumeClaim", values["storage_claim"]))
    rotation, findings = check_passwords(values, secrets, database if running else None, facts["mark"])
    if values["postgres_tls_renew_days"] >= values["postgres_tls_days"]:
        findings.append(
            f"postgres_tls_renew_days: {values['postgres_tls_renew_days']} must be less than postgres_tls_days "
            f"({values['postgres_tls_days']}), or every deploy makes a new certificate."
        )
    findings += check_settings(site.kube, values, database if running else None)
    if running:
        findings += checks_upgrade.check_major(values, pod["spec"]["containers"][0]["image"], database)
    return {"database": facts, "rotation": rotation}, findings


def look_at_server(database: Database, pod: dict | None) -> dict[str, Any]:
    """Where the database is asked, what was noted on its pod, and whether an upgrade has closed it."""
    return {
        "mark": ((pod or {}).get("metadata", {}).get("annotations") or {}).get(RECONCILED, ""),
        "pod": database.pod,
        "name": database.name,
        "port": database.port,
        "closed": is_running(pod) and checks_upgrade.is_closed(database),
    }


def check_passwords(
    values: dict[str, Any], secrets: Secrets, database: Database | None, mark: str
) -> tuple[dict[str, bool], list[str]]:
    """What is to be rotated: the values of the vault that are not those of the Secrets.

    Of a Secret that somebody else makes nothing tells what it was: there a password is changed where the server bears a
    note of an earlier deploy, so that its data is this site's.

    Returns:
        for each of the passwords, and `secret_key`, whether it changes; `under_way`, whether a rotation has begun; and
        findings.
    """
    rotation, findings = look_at_rotation(values, secrets), []
    for role in ("app", "owner", "admin"):
        live = secrets.get(values[f"secrets_postgres_{role}"], {}).get("password")
        rotation[role] = live not in (None, values[f"secrets_postgres_{role}_password"])
        if values["secrets_source"] == "existing" and database is not None and mark:
            rotation[role] = not database.accepts(user_of(values, role), live)
        elif not rotation["under_way"] and not values["postgres_adopt_passwords"]:
            findings += check_password(values, role, live, database)
    return rotation, findings


def check_password(values: dict[str, Any], role: str, live: str | None, database: Database | None) -> list[str]:
    """A password is changed only where the database accepts the Secret's, `live`, or has the vault's already.

    It has that where a run was stopped on its way.
    """
    variable = f"secrets_postgres_{role}_password"
    wanted, secret, user = values[variable], values[f"secrets_postgres_{role}"], user_of(values, role)
    if live == wanted:
        return []
    if database is None and live is not None:
        return [
            f"{variable}: is not the one in the Secret {secret}, and the database, in which it has to change as well, "
            "does not run. Deploy with the old value first."
        ]
    if database is None or any(database.accepts(user, each) for each in (live, wanted) if each):
        return []
    return [
        f"{variable}: the database accepts neither this one for {user} nor that of the Secret {secret}"
        f"{' (which is not there)' if live is None else ''}. Put the one it has into the vault (ansible-vault edit "
        "group_vars/all/vault.yml), or, if the data is this site's, give it the vault's passwords: deploy once with -e "
        "recover=reset."
    ]


def user_of(values: dict[str, Any], role: str) -> str:
    """The name of a role in the database; the superuser's is not the user's to choose."""
    return values.get(f"secrets_postgres_{role}_user", "postgres")


def look_at_rotation(values: dict[str, Any], secrets: Secrets) -> dict[str, bool]:
    """Whether a rotation has begun, and whether Django's key changes."""
    key = secrets.get(values["secrets_django"], {}).get("secret-key")
    return {
        "under_way": values["secrets_rotation"] in secrets,
        "secret_key": key not in (None, values["secrets_django_secret_key"]),
    }


def look_at_external(values: dict[str, Any], secrets: Secrets) -> dict[str, Any]:
    """The same facts of a database that runs elsewhere. Its passwords change there first; a Job tries them."""
    facts = {"mark": "", "is_new": False, "pod": ""}
    facts |= {"name": values["postgres_database"], "port": values["postgres_port"]}
    rotation = look_at_rotation(values, secrets) | dict.fromkeys(("app", "owner", "admin"), False)
    return {"database": facts, "rotation": rotation}


def check_external(site: SiteState) -> list[str]:
    """A database that runs elsewhere, and a site that can use it."""
    values, secrets = site.values, site.secrets
    findings = check_external_options(values)
    if site.get("StatefulSet", values["postgres_name"]):
        findings.append(
            f"postgres_backend: this site has a PostgreSQL of its own (StatefulSet {values['postgres_name']}), whose "
            "data would not move. Back it up, restore it there, take it away with playbooks/reset.yml, then deploy."
        )
    password = secrets.get(values["secrets_postgres_app"], {}).get("password")
    key_changes = look_at_rotation(values, secrets)["secret_key"]
    if key_changes and password not in (None, values["secrets_postgres_app_password"]):
        # The key takes a rollout before the password's, and its pods would have the old password.
        findings.append(
            "secrets_django_secret_key: changes together with secrets_postgres_app_password, which the database "
            "elsewhere has already. Deploy with the old key first, then with the new one."
        )
    return findings


def check_external_options(values: dict[str, Any]) -> list[str]:
    """What is wrong with the options of a database elsewhere by themselves."""
    findings = []
    host, mode = values["postgres_external_host"], values["postgres_external_sslmode"]
    if not host:
        findings.append(
            "postgres_external_host: is empty. Name the host of the database, or set postgres_backend to internal."
        )
    if mode.startswith("verify-") and "BEGIN CERTIFICATE" not in values["postgres_external_ca"]:
        findings.append(
            f"postgres_external_ca: {mode} needs the certificate of the CA, PEM. Set it, for one with "
            "lookup('ansible.builtin.file', …), or choose another postgres_external_sslmode."
        )
    is_name = any(map(str.isalpha, host)) and ":" not in host
    if values["postgres_external_service"] and (mode == "verify-full" or not is_name):
        findings.append(
            f"postgres_external_service: a Service cannot stand for {host or 'no host'} with {mode}: it takes a name, "
            "not an address, and verify-full checks the name. Use verify-ca, or leave the Service out."
        )
    return findings


def check_certificate(secrets: Secrets, values: dict[str, Any]) -> dict[str, Any]:
    """Whether the CA and the server's certificate are good for a while, and the certificate's SHA-256."""
    if not values["postgres_tls"]:
        return {"certificate_is_good": True, "certificate": ""}
    # Imported here: it takes a moment, and a site without TLS should not pay for it.
    from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates

    ca, server = (secrets.get(f"{values['postgres_name']}-{end}", {}) for end in ("ca-key", "tls"))
    public = secrets.get(values["postgres_ca_secret"], {}).get("ca.crt")
    ca_pem, certificate = ca.get("tls.crt", ""), server.get("tls.crt", "")
    names = certificates.server_names(
        values["postgres_service"], values["site_namespace"], values["postgres_tls_names"]
    )
    good = (
        public == ca_pem
        and certificates.ca_is_good(ca_pem, ca.get("tls.key", ""))
        and certificates.server_is_good(
            certificate, server.get("tls.key", ""), ca_pem, names, values["postgres_tls_renew_days"]
        )
    )
    return {"certificate_is_good": good, "certificate": hashlib.sha256(certificate.encode()).hexdigest()}


def check_settings(kube: Kube, values: dict[str, Any], database: Database | None) -> list[str]:
    """Settings that the server would refuse, as far as that can be told before it is asked to start with them."""
    settings = values["postgres_settings"]
    findings = [
        f"postgres_settings: {name} is the role's to set. "
        + (f"Use {variable}." if (variable := server_settings.RESERVED[name]) else "Leave it out.")
        for name in settings
        if name in server_settings.RESERVED
    ]
    try:
        wanted = server_settings.memory_settings(values["postgres_resources"], settings) | settings
    except ValueError as error:
        return [*findings, f"postgres_resources: {error}."]
    if findings or database is None:
        return findings
    live = kube.get("ConfigMap", f"{values['postgres_name']}-config", values["site_namespace"]) or {}
    known = (live.get("data") or {}).get("postgresql.conf", "").splitlines()
    lines = {name: server_settings.configuration({name: value}).rstrip("\n") for name, value in wanted.items()}
    new = [name for name, line in lines.items() if line not in known]
    if new:
        # The program of the running version; it reads them as the server would, and prints one of them.
        arguments = [word for name in new for word in ("-c", f"{name}={server_settings.spell(wanted[name])}")]
        code, _, errors = database.run("postgres", "-C", "max_connections", *arguments)
        if code:
            findings.append(f"postgres_settings: {explain(errors)}. The server runs on with its old settings.")
    return findings


def explain(errors: str) -> str:
    """What the server's program says about its arguments, and the hint that names the values there are."""
    lines = [line.partition(": ")[2].strip() for line in errors.splitlines() if ": " in line]
    return ". ".join(line.rstrip(".") for line in lines) or "the server refuses them"
