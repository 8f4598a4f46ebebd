"""A login to a registry that could not work is one sentence, without the password, before anything is touched."""

from __future__ import annotations

import pytest
from rendered import find
from test_bad_input import VAULT

GOOD = {"server": "registry.example.org:5000", "username": "robot", "password": "it is secret"}
IDS = ["scheme", "twice", "newline", "empty", "missing"]
WRONG = [
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
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is said of each of WRONG."""
    return find(tmp_path_factory.mktemp("logins"), [VAULT | {"secrets_registry_logins": logins} for logins, _ in WRONG])


@pytest.mark.parametrize("case", range(len(WRONG)), ids=IDS)
def test_wrong_login(findings: list[str], case: int) -> None:
    assert "Nothing was touched. Mend this first:" in findings[case]
    assert WRONG[case][1] in findings[case]
    assert "it is secret" not in findings[case]
