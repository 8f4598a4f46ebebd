"""What the tests share: this project's playbooks, run as a user runs them, on an inventory and a vault of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What the plugins share is imported by the name that Ansible gives it: ansible_collections.kubernetes_django.site...
sys.path.insert(0, str(ROOT / "collections"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count the tests that run playbooks as a user does to the stage of the real servers: seconds each."""
    for item in items:
        if "shared_project" in getattr(item, "fixturenames", ()):
            item.add_marker("servers")


class Project:
    """A copy of the inventory with its own vault, and a way to run playbooks on it.

    Args:
        folder: where it is made.
        like: a project whose vault is copied. Without one a playbook makes it, which takes seconds.
    """

    def __init__(self, folder: Path, like: Project | None = None) -> None:
        self.inventory = folder / "inventory"
        self.password = folder / "password"
        self.vault = self.inventory / "group_vars" / "all" / "vault.yml"
        self.vault.parent.mkdir(parents=True)
        (self.inventory / "hosts.yml").symlink_to(ROOT / "inventory" / "hosts.yml")
        # What a new user has, whatever this checkout's user has set.
        (self.vault.parent / "main.yml").symlink_to(ROOT / "molecule" / "inventory" / "group_vars" / "all" / "main.yml")
        self.password.write_text("a password for tests\n")
        # The cluster and the data of whoever uses this machine are not looked at.
        self.kubeconfig = folder / "kubeconfig"
        (self.vault.parent / "place.yml").write_text(f"storage_path: {folder}/data/postgres-pv\n")
        if like:
            shutil.copy(like.vault, self.vault)
            return
        made = self.run("playbooks/vault.yml")
        assert made.returncode == 0, made.stdout + made.stderr

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ansible-playbook in the project's root."""
        return self.tool("ansible-playbook", "-i", str(self.inventory / "hosts.yml"), *arguments, **environment)

    def tool(
        self, program: str, *arguments: str, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the tools of .venv in the project's root, with the tests' vault password."""
        ours = {
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.password),
            "ANSIBLE_NOCOLOR": "1",
            "KUBECONFIG": str(self.kubeconfig),
        }
        variables = os.environ | ours | environment
        return subprocess.run(
            [str(ROOT / ".venv" / "bin" / program), *arguments],
            cwd=ROOT,
            env=variables,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def write_vault(self, text: str) -> None:
        """Replace the vault by one with this content."""
        self.vault.unlink(missing_ok=True)
        encrypted = self.tool("ansible-vault", "encrypt", "--output", str(self.vault), stdin=text)
        assert encrypted.returncode == 0, encrypted.stderr


@pytest.fixture(scope="session")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for all tests that leave it as it is."""
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(tmp_path: Path, shared_project: Project) -> Project:
    """A project of its own, for a test that changes it."""
    return Project(tmp_path, shared_project)
