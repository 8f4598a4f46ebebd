"""A slip in a variable of ours is refused, and a variable of the user's own is left alone."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.misspelt import RENAMED, find_misspelt
from conftest import ROOT, Project

ROLES = sorted(path.name for path in ROOT.glob("roles/*"))
SPECS = [yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text()) for role in ROLES]
NAMES = {name for spec in SPECS for entry in spec["argument_specs"].values() for name in entry.get("options") or {}}
OWN = [
    *("site_domain", "site_title", "site_port", "image_tag", "image_version", "storage_bucket", "storage_host"),
    *("django_debug", "django_workers", "django_secret_key", "django_settings_module", "django_redis_url"),
    *("postgres_version", "postgres_user", "postgres_password", "minikube_cpus", "secrets_folder", "namespace_labels"),
]


@pytest.mark.parametrize("name", OWN)
def test_variable_of_the_users_own_is_left_alone(name: str) -> None:
    assert name not in NAMES
    assert find_misspelt(NAMES, {name: 1}, ROLES) == []


def test_name_without_a_roles_prefix_is_left_alone() -> None:
    assert find_misspelt(NAMES, {"jango_replicas": 1}, ROLES) == []


def test_every_name_without_one_of_its_letters_is_refused() -> None:
    """Behind the prefix, at any place."""
    for name in NAMES:
        start = 1 + len(next(role for role in sorted(ROLES, key=len, reverse=True) if name.startswith(f"{role}_")))
        for slip in {name[:place] + name[place + 1 :] for place in range(start, len(name))} - NAMES:
            assert find_misspelt(NAMES, {slip: 1}, ROLES), slip


@pytest.mark.parametrize("name", RENAMED)
def test_variable_of_another_version_is_refused_with_its_new_name(name: str) -> None:
    assert RENAMED[name] in NAMES
    assert find_misspelt(NAMES, {name: 1}, ROLES) == [f"{name}: this variable is called {RENAMED[name]} now."]


def test_replica_means_replicas() -> None:
    expected = ["django_replica: no role knows this variable. Did you mean django_replicas?"]
    assert find_misspelt(NAMES, {"django_replica": 3}, ROLES) == expected


def test_playbook_leaves_them_alone(shared_project: Project) -> None:
    run = shared_project.run(
        "playbooks/variables.yml", "-e", yaml.safe_dump(dict.fromkeys(OWN, "mine"), default_flow_style=True)
    )
    assert run.returncode == 0, run.stdout + run.stderr
