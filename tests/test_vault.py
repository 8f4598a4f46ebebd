"""A vault gets new values, and keeps all else that is in it."""

from __future__ import annotations

import json

import pytest
from conftest import Project

VAULT = "---\n# Kept.\nvault_a: old-a\nvault_b: 'old-b'   # with a comment\nother: [1, 2]\n"


def renew(project: Project, names: dict[str, int]) -> str:
    """Run the action; return what it prints."""
    arguments = json.dumps({"path": str(project.vault), "values": names})
    # Not the group_vars of whoever uses this checkout, whose vault has another password.
    place = ("-i", "localhost,", "--playbook-dir", str(project.vault.parent))
    run = project.tool("ansible", "localhost", *place, "-m", "kubernetes_django.site.renew_vault", "-a", arguments)
    return run.stdout + run.stderr


def read(project: Project) -> str:
    """The vault's text."""
    return project.tool("ansible-vault", "view", str(project.vault)).stdout


def test_new_value_and_all_else_as_it_was(project: Project) -> None:
    project.write_vault(VAULT)
    assert "CHANGED" in renew(project, {"vault_a": 12})
    lines, before = read(project).splitlines(), VAULT.splitlines()
    assert len(lines[2].removeprefix("vault_a: ")) == 12
    assert lines[:2] + lines[3:] == before[:2] + before[3:]
    assert project.vault.read_text().startswith("$ANSIBLE_VAULT")
    assert oct(project.vault.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(
    ("names", "message"),
    [({"vault_c": 12}, "has 0 lines vault_c: not one"), ({"vault_a": 12, "vault_c": 12}, "has 0 lines vault_c")],
)
def test_what_it_does_not_find_changes_nothing(project: Project, names: dict[str, int], message: str) -> None:
    project.write_vault(VAULT)
    before = project.vault.read_bytes()
    assert message in renew(project, names)
    assert project.vault.read_bytes() == before


def test_vault_in_the_clear_is_left_to_its_owner(project: Project) -> None:
    project.vault.write_text(VAULT)
    assert "is not encrypted as a whole. Change its values by hand" in renew(project, {"vault_a": 12})
    assert project.vault.read_text() == VAULT
