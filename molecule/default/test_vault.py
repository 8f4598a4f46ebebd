"""A checkout without the site's vault changes nothing, and can get one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from checkout import Checkout, refused
from scenario import NAME, NAMESPACE, as_they_are, changed, kubectl, playbook, wait_for

VAULT_IS_MISSING = f"The site {NAME} is in namespace {NAMESPACE} of context"
VAULT_IS_ANOTHERS = f"vault_site_id: the vault of this run is not the one that the site {NAME}"
CURE = "ansible-playbook playbooks/vault.yml -e recover=true"

# A vault is made where neither cluster nor data is to be seen.
NO_CLUSTER = ("-e", "site_context=nowhere", "-e", "storage_path=/nonexistent/data")


@pytest.fixture(scope="module", autouse=True)
def site_as_the_inventory_says() -> None:
    """Other tests released with variables of their own."""
    assert playbook("playbooks/deploy.yml").returncode == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def objects() -> dict[str, dict]:
    """All that a deploy applies."""
    return as_they_are("deployments,statefulsets,services,secrets,configmaps,jobs,pvc,leases")


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["deploy", "check"])
def test_1_no_vault_changes_nothing(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    before = objects()
    refused(checkout.run("deploy.yml", *arguments), VAULT_IS_MISSING, str(checkout.vault), CURE)
    assert objects() == before
    assert not checkout.vault.exists()


def test_1_vault_is_written_from_the_secrets(checkout: Checkout) -> None:
    made = checkout.run("vault.yml", "-e", "recover=true")
    assert made.returncode == 0, made.stdout
    assert "was written from the Secrets of the site" in made.stdout
    before = objects()
    assert changed(checkout.run("deploy.yml")) == 0
    wait_for(lambda: "Lease/deploy" not in objects(), 5)
    assert objects() == before


def test_vault_of_another_site_changes_nothing(checkout: Checkout) -> None:
    """It was made while no cluster answered, as before a stopped one is started."""
    elsewhere = checkout.run("vault.yml", *NO_CLUSTER)
    assert elsewhere.returncode == 0, elsewhere.stdout
    before, vault = objects(), checkout.vault.read_bytes()
    refused(checkout.run("deploy.yml"), VAULT_IS_ANOTHERS, CURE)
    assert objects() == before
    made = checkout.run("vault.yml", "-e", "recover=true")
    assert made.returncode == 0, made.stdout
    (kept,) = checkout.variables.glob("vault.yml.*")
    assert kept.read_bytes() == vault
    assert str(kept) in made.stdout
    assert changed(checkout.run("deploy.yml")) == 0


def test_vault_of_an_earlier_version(checkout: Checkout) -> None:
    """Without ids, a vault is the site's where one of its values is."""
    kubectl("delete", "secret", "site-id")
    elsewhere = checkout.run("vault.yml", *NO_CLUSTER)
    assert elsewhere.returncode == 0, elsewhere.stdout
    refused(checkout.run("deploy.yml"), VAULT_IS_ANOTHERS)
    with pytest.raises(subprocess.CalledProcessError):
        kubectl("get", "secret", "site-id")
    assert changed(playbook("playbooks/deploy.yml")) == 1
    assert changed(playbook("playbooks/deploy.yml")) == 0
