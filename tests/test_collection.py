"""The collection as somebody else has it: built, installed into a home of its own, and used from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT
from somebody import Home

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))

import content

pytestmark = pytest.mark.servers

VERBS = sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))
# What an artifact holds; whatever else comes into the checkout has to be thought of in galaxy.yml.
HOLDS = {
    *("MANIFEST.json", "FILES.json", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"),
    *("changelogs", "docs", "meta", "playbooks", "plugins", "roles", "webapp", "Dockerfile", ".dockerignore"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The collection, installed, before its first use."""
    return Home(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def home(installed: Home) -> Home:
    """The collection, installed, and a folder that init was run in. A site of this machine is not looked at."""
    (installed.folder / "group_vars" / "all").mkdir(parents=True)
    (installed.folder / "group_vars" / "all" / "place.yml").write_text("storage_path: /nonexistent/data\n")
    assert "changed=3" in installed.play("kubernetes_django.site.init")
    return installed


def test_artifact_has_what_a_user_needs_and_nothing_else(installed: Home) -> None:
    with tarfile.open(installed.artifact) as archive:
        names = [member.name for member in archive if not member.isdir()]
    assert {name.split("/")[0] for name in names} == HOLDS
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert set(names) - {"MANIFEST.json", "FILES.json"} <= set(known)
    assert not [name for name in names if name.startswith("webapp/tests") or "vault-password" in name]


def test_licences(installed: Home) -> None:
    assert "GNU GENERAL PUBLIC LICENSE" in (installed.collection / "LICENSE").read_text()
    assert "MIT License" in (installed.collection / "webapp" / "LICENSE").read_text()


def test_init_writes_what_a_site_needs(home: Home) -> None:
    names = {"ansible.cfg", ".gitignore", ".vault-password", "inventory.yml"}
    names |= {f"group_vars/all/{name}.yml" for name in ("main", "place", "vault")}
    assert set(home.files()) == names
    assert home.files()["group_vars/all/vault.yml"].startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    for name in (".vault-password", "group_vars/all/vault.yml"):
        assert (home.folder / name).stat().st_mode & 0o777 == 0o600
    viewed = home.run("ansible-vault", "view", "group_vars/all/vault.yml")
    assert "vault_django_secret_key:" in viewed.stdout, viewed.stderr


def test_second_init_changes_nothing(home: Home) -> None:
    (home.folder / "group_vars" / "all" / "main.yml").write_text("site_name: mine\n")
    before = home.files()
    assert "changed=0" in home.play("kubernetes_django.site.init")
    assert home.files() == before


def test_init_with_check_writes_nothing(installed: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder, installed.folder = installed.folder, elsewhere
    installed.play("kubernetes_django.site.init", "--check")
    installed.folder = folder
    assert not list(elsewhere.iterdir())


def test_variables_are_valid_without_any_of_ours(home: Home) -> None:
    """A default of each is enough: main.yml names one variable here, and none is in another file of ours."""
    (home.folder / "group_vars" / "all" / "main.yml").write_text("site_name: mine\n")
    assert "changed=0" in home.play("kubernetes_django.site.variables")
    run = home.run("ansible-playbook", "kubernetes_django.site.variables", "-e", "django_replica=3")
    assert "Did you mean django_replicas?" in run.stdout


def test_every_verb_is_found(home: Home) -> None:
    assert len(VERBS) > 15
    home.play("--syntax-check", *(f"kubernetes_django.site.{verb}" for verb in VERBS))


def test_playbook_of_somebodys_own_imports_a_verb(home: Home) -> None:
    (home.folder / "own.yml").write_text("- import_playbook: kubernetes_django.site.variables\n")
    assert "failed=0" in home.play("own.yml")


def test_roles_are_documented(installed: Home) -> None:
    listed = installed.run("ansible-doc", "--type", "role", "--list", "kubernetes_django.site").stdout
    for role in sorted(path.name for path in ROOT.glob("roles/*")):
        assert f"kubernetes_django.site.{role}" in listed, listed


def test_bundled_project_is_the_checkouts(installed: Home) -> None:
    """The same files, so the same tag, and a site that moves from a checkout to the collection is not released anew."""
    ours, theirs = (content.digest(root, content.files_of(root)) for root in (ROOT, installed.collection))
    assert ours == theirs
    assert "webapp/manage.py" in content.files_of(installed.collection)
