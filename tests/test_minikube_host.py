"""Whose the cluster on the host itself is: only its own `make destroy` takes it away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, Project

PROGRAM = f"""
- hosts: sites
  vars_files: ["{ROOT}/roles/minikube/defaults/main.yml", "{ROOT}/roles/minikube/vars/main.yml"]
  tasks:
    - ansible.builtin.copy: {{content: "{{{{ __minikube_is_on_host }}}}", dest: "{{{{ answer }}}}", mode: "0600"}}
"""


@pytest.mark.parametrize(
    ("profile", "driver", "home", "expected"),
    [
        ("minikube", "none", "ours", True),
        ("minikube", None, "ours", True),  # a start that ended before it made a profile
        ("minikube", None, None, True),  # a record of an earlier version
        ("other", None, "ours", False),
        ("minikube", "docker", "ours", False),
        ("minikube", None, "somebody else's", False),
    ],
)
def test_cluster_on_the_host_is_its_owners(
    profile: str, driver: str | None, home: str | None, expected: bool, tmp_path: Path, shared_project: Project
) -> None:
    minikube, record = tmp_path / "home" / ".minikube", tmp_path / "record"
    record.mkdir()
    if home:
        (record / "home").write_text(f"{minikube if home == 'ours' else '/home/other/.minikube'}\n")
    if driver:
        config = minikube / "profiles" / profile / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"Driver": driver}))
    playbook, answer = tmp_path / "playbook.yml", tmp_path / "answer"
    playbook.write_text(PROGRAM)
    given = {"__minikube_record": str(record), "minikube_profile": profile, "answer": str(answer)}
    run = shared_project.run(str(playbook), "-e", json.dumps(given), MINIKUBE_HOME=str(tmp_path / "home"))
    assert run.returncode == 0, run.stdout
    assert answer.read_text() == str(expected)
