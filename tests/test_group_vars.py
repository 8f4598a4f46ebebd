"""group_vars are the same for site.yml, for a playbook in playbooks/, and for molecule.

Ansible does not look for them beside site.yml when the inventory lies elsewhere: a link in the inventory makes it.
"""

from __future__ import annotations

import json

import pytest
from conftest import ROOT, Project


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/deploy.yml", "playbooks/preflight.yml"])
def test_playbook_loads_them(shared_project: Project, playbook: str) -> None:
    """site_kubeconfig comes from group_vars only: the file it names is the one that is missed."""
    run = shared_project.tool("ansible-playbook", "-i", "inventory/hosts.yml", playbook, "-e",
                              "cluster_kubeconfig=/nonexistent/from-group-vars", "-e", "cluster_provider=existing",
                              "-e", "image_postgres=x", "-e", "image_django=x", *vault_values())
    assert "there is no file /nonexistent/from-group-vars" in run.stdout


def test_molecule_loads_them(shared_project: Project) -> None:
    """Molecule's inventory has the users' group_vars, and of its own only what keeps tests and users apart."""
    shown = shared_project.tool("ansible-inventory", "-i", "molecule/inventory/hosts.yml", "--host", "localhost")
    variables = json.loads(shown.stdout)
    assert variables["storage_size"] == "2Gi"
    assert variables["site_name"] != "kubernetes-django"
    link = ROOT / "molecule" / "inventory" / "group_vars" / "all" / "main.yml"
    assert link.resolve() == ROOT / "group_vars" / "all" / "main.yml"


def vault_values() -> list[str]:
    """Values in place of the user's vault, whose password the tests do not have."""
    names = ("postgres_app_password", "postgres_owner_password", "postgres_admin_password", "django_secret_key")
    return ["-e", json.dumps({f"secrets_{name}": "x" for name in names})]
