"""Every plugin explains itself: ansible-doc shows what it is for and what it takes."""

from __future__ import annotations

import functools
import json
import os
import subprocess

import pytest
from conftest import ROOT

COLLECTION = "kubernetes_django.site"
# Plugins say themselves what they are; Ansible is in the tools' Python, and not in the tests'.
ASK = """
import importlib, json, sys
sys.path.insert(0, "collections")
kind, names = sys.argv[1], sys.argv[2:]
place = f"ansible_collections.kubernetes_django.site.plugins.{kind}"
modules = {name: importlib.import_module(f"{place}.{name}") for name in names}
if kind == "action":
    print(json.dumps({name: sorted(module.ActionModule._VALID_ARGS) for name, module in modules.items()}))
else:
    print(json.dumps({each: [] for module in modules.values() for each in module.FilterModule().filters()}))
"""


def plugin_files(kind: str) -> list[str]:
    """The names of the Python files of one kind of plugin."""
    return sorted(path.stem for path in ROOT.glob(f"plugins/{kind}/*.py"))


def run(*command: str) -> str:
    """What one of the tools of .venv prints."""
    done = subprocess.run(
        [str(ROOT / ".venv" / "bin" / command[0]), *command[1:]],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def documentation(kind: str, names: list[str]) -> dict[str, dict]:
    """What ansible-doc knows of each of these plugins; the documentation of an action is that of a module."""
    shown = "module" if kind == "action" else kind
    told = json.loads(run("ansible-doc", "--json", "-t", shown, *(f"{COLLECTION}.{name}" for name in names)))
    return {name: told.get(f"{COLLECTION}.{name}", {}) for name in names}


@functools.cache
def accepted(kind: str) -> dict[str, list[str]]:
    """The name of each action or filter, with the options that an action accepts."""
    return json.loads(run("python", "-c", ASK, kind, *plugin_files(kind)))


@pytest.fixture(scope="module")
def actions() -> dict[str, dict]:
    """The documentation of all actions."""
    return documentation("action", plugin_files("action"))


@pytest.mark.parametrize("kind", ["filter", "lookup", "callback"])
def test_every_plugin_has_documentation(kind: str) -> None:
    names = list(accepted("filter")) if kind == "filter" else plugin_files(kind)
    assert names
    for name, told in documentation(kind, names).items():
        assert told.get("doc", {}).get("short_description"), name
        assert kind == "callback" or (told["examples"] and told["return"]), name


def test_every_action_has_documentation_and_an_example(actions: dict[str, dict]) -> None:
    for name, told in actions.items():
        assert told.get("doc", {}).get("short_description"), name
        assert f"{COLLECTION}.{name}:" in (told["examples"] or ""), name


def test_an_action_accepts_the_options_that_are_documented(actions: dict[str, dict]) -> None:
    documented = {name: sorted(told.get("doc", {}).get("options", [])) for name, told in actions.items()}
    assert documented == accepted("action")


def test_documentation_belongs_to_an_action_or_filter() -> None:
    assert plugin_files("modules") == plugin_files("action")
    assert sorted(path.stem for path in ROOT.glob("plugins/filter/*.yml")) == sorted(accepted("filter"))
