"""What preflight says of the Secrets that images are pulled with, before pods name one that is not there."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_registry import check_pull_secrets
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import SiteState


class Kube:
    """A cluster without any Secret."""

    def get(self, *_: Any) -> None:
        return None


NAMED = {"site_namespace": "shop", "site_pull_secrets": ["registry-login"]}
NAMESPACE = {"metadata": {"name": "shop"}}
LOGINS = [{"server": "registry.example.org", "username": "me", "password": "x"}]


def test_secret_that_the_vault_makes() -> None:
    deploy = {"secrets_registry": "registry-login", "secrets_registry_logins": LOGINS}
    assert check_pull_secrets(SiteState(Kube(), NAMED | deploy, NAMESPACE)) == ({}, [])


def test_secret_that_a_reset_has_deleted() -> None:
    """The next reset asks for role storage's options alone, and the site's data can still be deleted."""
    reset = {"storage_registry_logins": {"registry-login": LOGINS}}
    assert check_pull_secrets(SiteState(Kube(), NAMED | reset, NAMESPACE)) == ({}, [])


def test_namespace_that_has_to_be_made_first() -> None:
    _, (said,) = check_pull_secrets(SiteState(Kube(), NAMED, None))
    assert "`kubectl create namespace shop`, then `kubectl --namespace shop create secret docker-registry" in said
    _, (said,) = check_pull_secrets(SiteState(Kube(), NAMED, NAMESPACE))
    assert "kubectl create namespace" not in said
