"""Ansible on hosts that are nothing but their variables: one run for many cases, not seconds for each."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

# What a new user sets.
USERS: dict[str, Any] = yaml.safe_load((ROOT / "playbooks" / "files" / "init" / "main.yml").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "variables" / "defaults.yml").read_text())


def play(
    folder: Path, playbook: Path, hosts: dict[str, dict[str, Any]], **extra: Any
) -> subprocess.CompletedProcess[str]:
    """Run a playbook on these hosts, each with its variables; no vault and no group_vars are read.

    Args:
        folder: for the inventory.
        playbook: to run.
        hosts: name of each -> its variables.
        extra: variables for -e.
    """
    common = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory = folder / "inventory" / "hosts.yml"
    inventory.parent.mkdir()
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    return subprocess.run(
        [ROOT / ".venv" / "bin" / "ansible-playbook", "-i", inventory, playbook, "-e", json.dumps(extra)],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_NOCOLOR": "1", "KUBECONFIG": str(folder / "kubeconfig")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def render(folder: Path, templates: list[Path], sets: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[dict]]]:
    """What templates give for sets of variables.

    Args:
        folder: for what is written on the way.
        templates: to render.
        sets: name of each set -> its variables.

    Returns:
        name of each set -> name of each template, without .j2 -> its objects.
    """
    hosts = {}
    for name, variables in sets.items():
        hosts[name] = {"given": str(folder / f"{name}.json"), "out": str(folder / name)}
        (folder / name).mkdir()
        (folder / f"{name}.json").write_text(json.dumps(variables))
    names = [str(path) for path in templates]
    run = play(folder, ROOT / "tests" / "render.yml", hosts, templates=names, render_hosts="all")
    assert run.returncode == 0, run.stdout + run.stderr
    return {name: {path.name: load(path) for path in (folder / name).iterdir()} for name in sets}


def load(manifests: Path) -> list[dict]:
    """The objects of a file."""
    return [item for item in yaml.safe_load_all(manifests.read_text()) if item]


def find(folder: Path, cases: list[dict[str, Any]]) -> list[str]:
    """What the check of the variables says of each of these cases, nothing where all is well.

    Args:
        folder: for what is written on the way.
        cases: the variables of each, beside those of a new user.
    """
    hosts = {f"case-{number}": USERS | variables for number, variables in enumerate(cases)}
    check = {"ansible.builtin.include_role": {"name": "kubernetes_django.site.site", "tasks_from": "variables"}}
    (folder / "check.yml").write_text(json.dumps([{"hosts": "all", "tasks": [check]}]))
    run = play(folder, folder / "check.yml", hosts)
    assert "PLAY RECAP" in run.stdout, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    failures = re.split(r"^fatal: \[(.+)\]: FAILED! =>", run.stdout.partition("\nPLAY RECAP")[0], flags=re.MULTILINE)
    said = dict(zip(failures[1::2], failures[2::2], strict=True))
    return [said.get(host, "") for host in hosts]
