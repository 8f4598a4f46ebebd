"""Every role says what it takes, and says the same in its defaults and its README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project

ROLES = sorted(path.parent for path in ROOT.glob("roles/*/tasks"))


def load(path: Path) -> dict:
    """A YAML file, or nothing."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options_of(role: Path) -> dict[str, dict]:
    """The options of all entry points of a role."""
    spec = load(role / "meta" / "argument_specs.yml").get("argument_specs", {})
    return {name: option for entry in spec.values() for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_defaults_are_the_documented_ones(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    documented = {name: option["default"] for name, option in options_of(role).items() if "default" in option}
    assert documented == defaults


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_option_is_explained(role: Path) -> None:
    for name, option in options_of(role).items():
        assert option.get("description"), name
        assert option.get("type"), name
        assert name.startswith(f"{role.name}_"), name


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_entry_point_exists(role: Path) -> None:
    spec = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    for entry in spec:
        assert (role / "tasks" / f"{entry}.yml").exists(), entry


def test_page_of_variables_and_readmes_are_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "document-variables", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def readme_play(role: Path) -> str:
    """The play in a role's README."""
    return (role / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]


def test_ansible_accepts_the_plays_of_the_readmes(shared_project: Project, tmp_path: Path) -> None:
    (tmp_path / "playbooks").symlink_to(ROOT / "playbooks")
    plays = [tmp_path / f"{role.name}.yml" for role in ROLES]
    for role, play in zip(ROLES, plays, strict=True):
        play.write_text(readme_play(role))
    check = shared_project.run("--syntax-check", *map(str, plays))
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_play_of_the_readme_sets_documented_variables(role: Path) -> None:
    used = [each for play in yaml.safe_load(readme_play(role)) for each in play.get("roles", [])]
    assert used or role.name == "site"
    for each in used:
        assert set(each.get("vars", {})) <= set(options_of(ROOT / "roles" / each["role"].split(".")[-1]))
