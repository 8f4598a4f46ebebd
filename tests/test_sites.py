"""Sites are hosts of the inventory group `sites`. A run that finds none fails, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project

OTHER = {"all": {"hosts": {"other": {}}}}


@pytest.mark.parametrize(
    ("inventory", "limit"),
    [(OTHER, "all"), (OTHER | {"sites": {"hosts": {}}}, "all"), (OTHER | {"sites": {"hosts": {"shop": {}}}}, "other")],
    ids=["no group", "empty group", "limit"],
)
def test_run_without_a_site(shared_project: Project, tmp_path: Path, inventory: dict, limit: str) -> None:
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    place = ("-i", str(tmp_path / "hosts.yml"), "--limit", limit)
    run = shared_project.tool("ansible-playbook", *place, "playbooks/variables.yml")
    assert run.returncode != 0
    assert "There is no site to work on: sites are the hosts of the inventory group sites" in run.stderr


def test_playbooks_are_for_sites() -> None:
    """What is for the machine alone is `init`: it has no inventory yet."""
    plays = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob("playbooks/*.yml")}
    hosts = {name: {play["hosts"] for play in each if "hosts" in play} for name, each in plays.items()}
    assert hosts.pop("init") == {"localhost"}
    assert set().union(*hosts.values()) == {"sites"}
