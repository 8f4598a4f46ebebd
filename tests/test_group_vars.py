"""group_vars are the same for site.yml and for a playbook in playbooks/; molecule has its own, and not the user's.

Ansible does not look for them beside site.yml when the inventory lies elsewhere: a link in the inventory makes it.
Tried on a copy of the checkout, since a user's own has values, and a vault whose password tests do not know.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.servers

WHAT_ANSIBLE_READS = [
    "ansible.cfg",
    "site.yml",
    "playbooks",
    "roles",
    "plugins",
    "collections",
    "inventory",
    "group_vars",
    "molecule",
    "scripts",
]

# The tests' own variables.
OWN = ROOT / "molecule" / "inventory" / "group_vars" / "all"

# This machine may have a site whose vault is not in the copy.
NO_DATA = ("-e", "storage_path=/nonexistent/data")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as it was before its first use."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in WHAT_ANSIBLE_READS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, folder / name)
    for vault in folder.glob("**/group_vars/all/vault.yml"):
        vault.unlink()
    variables = folder / "group_vars" / "all"
    for file in variables.iterdir():
        file.unlink()
    shutil.copy(OWN / "main.yml", variables)
    return folder


def run(checkout: Path, program: str, *arguments: str) -> str:
    """Run one of Ansible's programs in the copy; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["KUBECONFIG"] = "/nonexistent/config"
    return subprocess.run(
        [ROOT / ".venv" / "bin" / program, *arguments],
        cwd=checkout,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    ).stdout


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/deploy.yml"])
def test_playbook_loads_them(checkout: Path, playbook: str) -> None:
    """What cluster_kubeconfig names is the file that is missed."""
    shown = run(
        checkout,
        "ansible-playbook",
        playbook,
        "-e",
        "cluster_kubeconfig=/nonexistent/from-group-vars",
        "-e",
        "cluster_provider=existing",
        "-e",
        "image_postgres=x",
        "-e",
        "image_django=x",
        *NO_DATA,
    )
    assert "there is no file /nonexistent/from-group-vars" in shown


def test_molecule_does_not_load_what_a_user_sets(checkout: Path) -> None:
    """The tests delete a site with its data: not on the cluster that somebody works on."""
    theirs = checkout / "group_vars" / "all" / "main.yml"
    before = theirs.read_text()
    theirs.write_text("cluster_provider: existing\ndjango_url: https://site.example.org\n")
    shown = run(
        checkout,
        "ansible-inventory",
        "-i",
        "molecule/inventory/hosts.yml",
        "--host",
        "kubernetes-django",
        "--playbook-dir",
        "molecule/default",
    )
    theirs.write_text(before)
    variables = json.loads(shown)
    assert variables["cluster_provider"] == "minikube"
    assert "django_url" not in variables
    assert variables["site_name"] == "{{ molecule_site }}"


@pytest.mark.parametrize(
    "playbook",
    ["molecule/base/create.yml", *(str(path.relative_to(ROOT)) for path in ROOT.glob("molecule/*/destroy.yml"))],
)
def test_molecule_works_on_a_minikube_alone(checkout: Path, playbook: str) -> None:
    place = ["-i", "molecule/inventory/hosts.yml", "-e", "cluster_provider=existing", "-e", "cluster_context=theirs"]
    shown = run(checkout, "ansible-playbook", playbook, *place, *NO_DATA)
    assert "the tests work on a minikube alone, and cluster_provider is existing" in " ".join(shown.split())
    assert shown.count("TASK [") == 1


def test_tests_set_what_a_new_user_has() -> None:
    """In a checkout whose user has set something there is nothing to compare with."""
    theirs = ROOT / "group_vars" / "all"
    status = subprocess.run(
        ["git", "status", "--porcelain", theirs], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if status.stdout or (theirs / "vault.yml").exists():
        pytest.skip("group_vars/all is somebody's own")
    ours, new = (yaml.safe_load((folder / "main.yml").read_text()) for folder in (OWN, theirs))
    assert ours == new, "a default was changed in one of two files: group_vars/all/main.yml, and the tests' copy of it"
    init = ROOT / "playbooks" / "files" / "init" / "main.yml"
    assert init.read_text() == (theirs / "main.yml").read_text(), "playbooks/init.yml writes another main.yml"


def test_first_use_makes_vault_and_password(checkout: Path) -> None:
    """Both are there after the first run, the vault encrypted, neither readable by others; a second run keeps them."""
    files = [checkout / "group_vars" / "all" / "vault.yml", checkout / ".vault-password"]
    run(checkout, "ansible-playbook", "playbooks/vault.yml", *NO_DATA)
    before = [file.read_bytes() for file in files]
    assert before[0].startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert "vault_django_secret_key:" in run(checkout, "ansible-vault", "view", "group_vars/all/vault.yml")
    run(checkout, "ansible-playbook", "playbooks/vault.yml", *NO_DATA)
    assert [file.read_bytes() for file in files] == before
