"""The clone that the tests' user works in has nothing of what this checkout's user has set."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engines import user

FILES = {
    "group_vars/all/main.yml": "a new user's",
    "molecule/inventory/group_vars/all/main.yml": "a new user's",
    "site.yml": "site",
}


@pytest.mark.parametrize("committed", [False, True])
def test_clone_has_neither_vault_nor_what_is_set(
    committed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, target = tmp_path / "checkout", tmp_path / "clone"
    theirs = {"main.yml": "cluster_provider: existing", "vault.yml": "$ANSIBLE_VAULT", "project.yml": "site_name: mine"}
    for name, text in (FILES | {f"group_vars/all/{name}": text for name, text in theirs.items()}).items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    if committed:
        subprocess.run(["git", "add", "."], cwd=checkout, check=True)
    monkeypatch.setattr(user, "ROOT", checkout)
    user.clone(target)
    found = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == FILES
