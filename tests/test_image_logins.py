"""A login to a registry that could not work is one sentence, without the password, before anything is touched."""

from __future__ import annotations

import json

import pytest
from conftest import Project

GOOD = {"server": "registry.example.org:5000", "username": "robot", "password": "it is secret"}


@pytest.mark.parametrize(
    ("logins", "message"),
    [
        (
            [GOOD | {"server": "https://registry.example.org"}],
            "secrets_registry_logins: 'https://registry.example.org' must be the host of a registry, with its port",
        ),
        ([GOOD, GOOD], "secrets_registry_logins: there are several for registry.example.org:5000. Keep one of them."),
        (
            [GOOD | {"password": "it is secret\n"}],
            "secrets_registry_logins: the password for registry.example.org:5000 begins or ends with white space or a",
        ),
        ([GOOD | {"username": ""}], "secrets_registry_logins: the username for registry.example.org:5000 is empty."),
        ([{"server": "registry.example.org"}], "missing required arguments: password, username"),
    ],
    ids=["scheme", "twice", "newline", "empty", "missing"],
)
def test_wrong_login(shared_project: Project, logins: list[dict[str, str]], message: str) -> None:
    run = shared_project.run("playbooks/deploy.yml", "-e", json.dumps({"secrets_registry_logins": logins}))
    seen = run.stdout + run.stderr
    assert run.returncode != 0
    assert "Nothing was touched. Mend this first:" in seen
    assert message in seen
    assert "it is secret" not in seen
