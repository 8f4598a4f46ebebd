"""Which cluster a task works on: the site's, by its variables, and never a kubeconfig's current context."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from test_bad_input import write_kubeconfig

CLUSTER = {"kubeconfig": "{{ site_kubeconfig }}", "context": "{{ site_context }}"}
FILES = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
OWN = "kubernetes_django.site.explain_pods"
ARGUMENTS = {"namespace": "shop", "site_name": "shop", "log_dir": "none", "log_lines": 1}


def tasks_of(content: Any) -> Iterator[dict[str, Any]]:
    """The tasks of a file, those of its plays and blocks included."""
    for each in content or []:
        yield each
        for key in ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks_of(each.get(key))


def arguments_of(collection: str) -> list[dict[str, Any]]:
    """The arguments of each task with one of this collection's modules."""
    tasks = [task for file in FILES for task in tasks_of(yaml.safe_load(file.read_text()))]
    return [value for task in tasks for name, value in task.items() if name.startswith(collection)]


def test_tasks_of_kubernetes_core_name_the_cluster() -> None:
    """Without these two they would work on whatever context is the current one."""
    found = arguments_of("kubernetes.core.")
    assert len(found) > 20
    assert [each for each in found if not CLUSTER.items() <= each.items()] == []


def test_our_own_tasks_do_not_repeat_it() -> None:
    found = arguments_of("kubernetes_django.site.")
    assert len(found) > 20
    assert [each for each in found if set(each) & set(CLUSTER)] == []


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ({}, {"site_context": "shop"}, "No cluster answers at https://127.0.0.1:9 (context shop)"),
        ({"context": "there"}, {"site_context": "shop"}, "only shop. Set cluster_context to one of these"),
        ({}, {}, "context is missing. Give the task one, or set the variable site_context."),
    ],
    ids=["the site's", "its own", "none"],
)
def test_cluster_of_one_of_our_tasks(tmp_path: Path, arguments: dict, variables: dict, said: str) -> None:
    config = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:9", "shop")
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{OWN: ARGUMENTS | arguments}]}
    play["vars"] = {"here": str(config), "site_kubeconfig": "{{ here }}"} | variables
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    run = subprocess.run(
        [ROOT / ".venv" / "bin" / "ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode != 0
    assert said in " ".join(run.stdout.split()), run.stdout + run.stderr
