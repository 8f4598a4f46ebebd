# GNU General Public License v3.0+ (see LICENSE)
"""Makes a CA of the site's where it has none, and a server's certificate where it has none that is good for long."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import read_secret, values_of, write_secret
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/certificate.py."""

    _DRY_RUN = {"changed": True, "made": [], "checksum": ""}  # noqa: RUF012 (as in its parent)
    _VALID_ARGS = frozenset(
        (
            "kubeconfig",
            "context",
            "namespace",
            "labels",
            "name",
            "title",
            "secret_type",
            "ca_secret",
            "service",
            "names",
            "days",
            "renew_days",
        )
    )

    def act(self, kube: Kube) -> dict[str, Any]:
        made, certificate = self._make(kube)
        return {
            "changed": bool(made),
            "made": made,
            "checksum": hashlib.sha256(certificate.encode()).hexdigest(),
        }

    def _make(self, kube: Kube) -> tuple[list[str], str]:
        """What was made, and the server's certificate."""
        args, made = self._task.args, []
        namespace = args["namespace"]

        def write(name: str, values: dict[str, str], what: str, kind: str = "Opaque") -> None:
            write_secret(kube, namespace, name, args["labels"], values, kind)
            made.append(what)

        ca_key_secret, ca_secret, server_secret = f"{args['name']}-ca-key", args["ca_secret"], f"{args['name']}-tls"
        ca = read_secret(kube, namespace, ca_key_secret)
        if not certificates.ca_is_good(ca.get("tls.crt", ""), ca.get("tls.key", "")):
            key = ca.get("tls.key") or certificates.make_key()
            ca = {
                "tls.key": key,
                "tls.crt": certificates.make_ca(key, f"{args['namespace']} {args.get('title', 'PostgreSQL')} CA"),
            }
            write(ca_key_secret, ca, "the CA")
        if read_secret(kube, namespace, ca_secret) != {"ca.crt": ca["tls.crt"]}:
            write(ca_secret, {"ca.crt": ca["tls.crt"]}, "the CA's certificate for clients")
        names = certificates.server_names(args.get("service", ""), namespace, args["names"])
        kind = args.get("secret_type", "Opaque")
        there = kube.get("Secret", server_secret, namespace) or {}
        server = values_of(there) if there.get("type") == kind else {}
        key, certificate = server.get("tls.key", ""), server.get("tls.crt", "")
        if not certificates.server_is_good(certificate, key, ca["tls.crt"], names, int(args["renew_days"])):
            key = certificates.make_key()
            certificate = certificates.make_server_certificate(
                key, ca["tls.crt"], ca["tls.key"], names, int(args["days"])
            )
            if there and there["type"] != kind:
                kube.request("DELETE", kube.path("Secret", namespace, server_secret))
            write(server_secret, {"tls.key": key, "tls.crt": certificate}, "the server's certificate", kind)
        return made, certificate
