"""Only the data is left, and its vault is lost."""

from __future__ import annotations

import uuid
from pathlib import Path

from checkout import Checkout, refused
from scenario import NAME, NAMESPACE, ask, changed, playbook


def test_data_gets_the_passwords_of_a_new_vault(tmp_path: Path) -> None:
    checkout, text = Checkout(tmp_path), f"written before the vault was lost {uuid.uuid4()}"
    assert ask("/api/notes", {"text": text})[0] == 201
    assert playbook("playbooks/reset.yml").returncode == 0
    data = f"The data of the site {NAME} is there, the claim postgres-pvc in namespace {NAMESPACE}"
    refused(checkout.run("deploy.yml"), data, "ansible-playbook playbooks/deploy.yml -e recover=reset")
    refused(checkout.run("vault.yml", "-e", "recover=true"), f"the site {NAME} has no Secrets in namespace {NAMESPACE}")
    assert changed(checkout.run("deploy.yml", "-e", "recover=reset")) > 0
    assert text in ask("/api/notes")[1]
    assert changed(checkout.run("deploy.yml")) == 0
    # Back to the vault of the other tests.
    assert playbook("playbooks/reset.yml").returncode == 0
    assert changed(playbook("playbooks/deploy.yml", "-e", "recover=reset")) > 0
