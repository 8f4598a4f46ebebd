# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks of the Ingress: its options, its class, its certificate, and one that is no longer wanted."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import TLS, values_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
# Days that must be left of a certificate that is made here; as in roles/django/tasks/certificate.yml.
RENEW_DAYS = 30


def ingress_of(values: dict[str, Any]) -> dict[str, Any]:
    """What was given of the Ingress; validation puts None for the rest. Empty for none."""
    return {key: value for key, value in values.get("django_ingress", {}).items() if value is not None}


def check_options(values: dict[str, Any]) -> list[str]:
    """What is wrong with django_ingress by itself."""
    ingress = ingress_of(values)
    if not ingress:
        return []
    if not ingress.get("hosts"):
        return ["django_ingress: hosts is missing. Name at least one."]
    findings = [
        f"django_ingress: {host!r} is no host name: lower-case, at least two parts, such as site.example.org."
        for host in ingress["hosts"]
        if not HOST.fullmatch(host)
    ]
    if ingress.get("certificate") == "cert-manager" and not ingress.get("issuer"):
        findings.append("django_ingress: certificate cert-manager needs an issuer, the name of a ClusterIssuer.")
    return findings


def check_ingress(site: SiteState) -> Found:
    """Whether the Ingress can work.

    Returns:
        `web`: needs_certificate, whether one is to be made here; and findings.
    """
    values, ingress = site.values, ingress_of(site.values)
    state = {"web": {"needs_certificate": False}}
    # A site can be taken away, whatever became of its class and its certificate.
    if not ingress or "namespace_quota" not in values:
        return state, []
    findings = check_class(site.kube, ingress.get("class", ""))
    name = f"{values['django_name']}-ingress"
    secret, kind = ingress.get("secret", f"{name}-tls"), ingress.get("certificate", "existing")
    if kind == "cert-manager":
        return state, findings
    there = site.get("Secret", secret) or {}
    if kind == "existing":
        return state, findings + check_certificate(values, secret, values_of(there))
    if secret != f"{name}-tls":
        findings.append(f"django_ingress: a self-signed certificate is kept in {name}-tls. Leave out secret.")
    ca = site.secrets.get(f"{name}-ca", {}).get("ca.crt", "")
    state["web"]["needs_certificate"] = there.get("type") != TLS or not is_good(values_of(there), ca, ingress)
    return state, findings


def is_good(secret: dict[str, str], ca: str, ingress: dict[str, Any]) -> bool:
    """Whether a certificate that was made here is this CA's, for these hosts, and for a while to come."""
    # Imported here: it takes a moment, and a site without an Ingress should not pay for it.
    from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates

    pair = secret.get("tls.crt", ""), secret.get("tls.key", "")
    return certificates.server_is_good(*pair, ca, ingress["hosts"], RENEW_DAYS)


def check_certificate(values: dict[str, Any], secret: str, data: dict[str, str]) -> list[str]:
    """A certificate that somebody else makes: there, in this Secret, and good for the hosts."""
    if missing := [key for key in ("tls.crt", "tls.key") if not data.get(key)]:
        return [
            f"django_ingress: the Secret {secret} in namespace {values['site_namespace']} is not there or lacks "
            f"{' and '.join(missing)}. Make it (kubectl create secret tls), or let certificate be cert-manager or "
            "self-signed."
        ]
    found = certificate_faults(data["tls.crt"], ingress_of(values)["hosts"])
    return [f"django_ingress: the Secret {secret}: {fault}." for fault in found]


def certificate_faults(certificate: str, hosts: list[str]) -> list[str]:
    """What keeps a certificate, PEM, from being good for these hosts."""
    from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates

    try:
        left, names = certificates.days_left(certificate), certificates.dns_names(certificate)
    except ValueError:
        return ["tls.crt is not a certificate"]
    found = ["the certificate has ended"] if left < 0 else []
    # A wildcard stands for one part of a name.
    uncovered = [host for host in hosts if host not in names and f"*.{host.partition('.')[2]}" not in names]
    if uncovered:
        found.append(f"the certificate is for {', '.join(names) or 'no name'}, not for {', '.join(uncovered)}")
    return found


def check_class(kube: Kube, name: str) -> list[str]:
    """An Ingress of a class that is not there is nobody's. An account that may not look is believed."""
    classes = kube.list_if_allowed("IngressClass")
    if classes is None:
        return []
    names = [each["metadata"]["name"] for each in classes]
    default = "ingressclass.kubernetes.io/is-default-class"
    if name and name not in names:
        there = f"only {', '.join(names)}" if names else "none: it needs an ingress controller"
        return [f"django_ingress: the cluster has no IngressClass {name}, {there}."]
    if not name and not any((each["metadata"].get("annotations") or {}).get(default) == "true" for each in classes):
        return [
            f"django_ingress: the cluster has no default IngressClass. Name one as class "
            f"({', '.join(names) or 'it has none: it needs an ingress controller'})."
        ]
    return []
