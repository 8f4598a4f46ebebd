"""What preflight asks about the database in the cluster: its certificate, its settings, its passwords."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import server_settings
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import RECONCILED, Database, is_running
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube

Secrets = dict[str, dict[str, str]]


def check_postgres(
    kube: Kube, values: dict[str, Any], secrets: Secrets, exists: bool
) -> tuple[dict[str, Any], list[str]]:
    """What role postgres needs to know, and what stands in its way.

    Args:
        kube: the connection.
        values: the options of all roles.
        secrets: name of each Secret of the site -> its keys and values.
        exists: whether the namespace is there.
    """
    namespace, name = values["site_namespace"], values["postgres_name"]
    pod = kube.get("Pod", f"{name}-0", namespace) if exists else None
    running = is_running(pod)
    database = Database(kube, namespace, f"{name}-0", values["postgres_database"], values["postgres_port"])
    facts = {
        "mark": ((pod or {}).get("metadata", {}).get("annotations") or {}).get(RECONCILED, ""),
        "running": running,
        "rotating": False,
        **check_certificate(secrets, values),
    }
    findings = check_settings(kube, values, database if running else None)
    return {"site_database": facts}, findings


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
