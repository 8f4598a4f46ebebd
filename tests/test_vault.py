"""A vault gets new values, and keeps all else that is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.docker_config import docker_config
from conftest import Project
from stand_ins.cluster import Cluster

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


def refused(project: Project, *arguments: str) -> str:
    """Run a playbook, which must fail before its first change; return what it says, without its line breaks."""
    run = project.run(*arguments)
    assert run.returncode != 0
    said = " ".join(run.stdout.split())
    assert "Nothing was touched" in said
    return said


def data_of(project: Project) -> Path:
    """Data of a site on this machine, whose cluster is gone."""
    data = project.vault.parents[3] / "data" / "postgres-pv"
    (data / "pgdata").mkdir(parents=True)
    (data / "pgdata" / "PG_VERSION").write_text("17\n")
    return data


def test_no_vault_is_made_beside_data(project: Project) -> None:
    """A clone where an earlier one's data lies: PostgreSQL would not take the passwords of a new vault."""
    data = data_of(project)
    project.vault.unlink()
    for arguments in ((), ("--check",)):
        said = refused(project, "playbooks/vault.yml", *arguments)
        assert "start the cluster, which does not answer and may still have its Secrets" in said
        assert "ansible-playbook playbooks/deploy.yml -e recover=reset" in said
        assert not project.vault.exists()
    said = refused(project, "playbooks/vault.yml", "-e", "recover=true")
    assert "no cluster answers in context minikube. Start it with playbooks/cluster.yml" in said
    assert not project.vault.exists()
    assert f"The data of the site kubernetes-django is there, the directory {data}" in refused(project, "site.yml")
    assert project.run("playbooks/vault.yml", "-e", "recover=reset").returncode == 0
    assert "vault_site_id:" in read(project)


def test_unknown_way_to_recover(project: Project) -> None:
    assert "recover: is true or reset, not maybe." in refused(project, "playbooks/vault.yml", "-e", "recover=maybe")


def test_logins_to_registries_come_back_from_the_cluster(project: Project, tmp_path: Path) -> None:
    """Without them the next deploy would give every pod another list of pull secrets."""
    logins = [
        {"server": "docker.io", "username": "me", "password": 'a:"b"\\ ä'},
        {"server": "registry.example.org:5000", "username": "robot$site", "password": "0123"},
    ]
    with Cluster(tmp_path) as cluster:
        cluster.put("postgres-owner", user="the owner", password="of the site")
        cluster.put("registry-login", **{".dockerconfigjson": docker_config(logins)})
        given = cluster.variables | {"recover": "true"}
        run = project.run("playbooks/vault.yml", "-e", json.dumps(given))
    assert run.returncode == 0, run.stdout + run.stderr
    found = yaml.safe_load(read(project))
    assert found["vault_postgres_owner_password"] == "of the site"
    assert sorted(found["vault_registry_logins"], key=lambda login: login["server"]) == logins
