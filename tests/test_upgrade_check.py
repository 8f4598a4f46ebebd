"""What an upgrade that was interrupted left, as the check before the next run reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.kubernetes_django.site.plugins.module_utils import checks_upgrade
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_upgrade import (
    ALONE,
    DATA_OF,
    UPGRADED_FROM,
    check_unfinished,
    check_upgrade,
    find_data,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import SiteState

OLD = {"image": "localhost/site-postgres:15-a", "claim": "data"}
VALUES = {
    "site_namespace": "site",
    "site_name": "site",
    "site_preflight_upgrade": True,
    "postgres_name": "postgres",
    "postgres_backend": "internal",
    "postgres_database": "site",
    "postgres_port": 5432,
    "image_postgres_reference": "",
    "image_postgres_major": 17,
    "storage_claim": "data-17",
}
NAMESPACE = {"metadata": {"name": "site"}}


class Objects:
    """A cluster whose new server has the old one's place, and does not run."""

    def __init__(self, note: dict[str, Any]) -> None:
        self.note = note

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        if kind != "StatefulSet":
            return None
        pod = {"containers": [{"image": "localhost/site-postgres:17-b"}], "volumes": []}
        annotations = {UPGRADED_FROM: json.dumps(self.note)}
        return {"metadata": {"annotations": annotations}, "spec": {"template": {"spec": pod}}}

    def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        return []


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """The tasks of a file in the order in which they run, those of blocks and rescues too."""
    found, left = [], yaml.safe_load(path.read_text())
    while left:
        task = left.pop(0)
        found.append(task)
        left = [each for part in ("block", "rescue", "always") for each in task.get(part, [])] + left
    return found


def test_check_mode_changes_nothing_in_a_pod() -> None:
    """The module runs its command in check mode too. Who checks may not open what another's upgrade has closed."""
    seen = 0
    for path in ROOT.glob("roles/*/tasks/*.yml"):
        for task in tasks_of(path):
            if "kubernetes.core.k8s_exec" in task:
                seen += 1
                guarded = "not ansible_check_mode" in str(task.get("when", ""))
                assert guarded or task["changed_when"] is False, task["name"]
    assert seen > 3


@pytest.mark.parametrize(("note", "opened"), [(OLD, False), (OLD | {"opened": True}, True)])
def test_server_that_was_opened_is_known(note: dict[str, Any], opened: bool) -> None:
    facts, findings = check_upgrade(SiteState(Objects(note), VALUES, NAMESPACE, state={"data": {"suffix": "-17"}}))
    assert findings == []
    upgrade = facts["upgrade"]
    assert (upgrade["switched"], upgrade["unfinished"], upgrade["opened"], upgrade["old"]) == (True, True, opened, OLD)


def upgrade_job(condition: str) -> dict[str, Any]:
    """The Job of an upgrade that ended so."""
    metadata = {"name": "postgres-upgrade-1", "labels": {"app.kubernetes.io/component": "upgrade"}}
    return {"metadata": metadata, "status": {"conditions": [{"type": condition, "status": "True"}]}}


@pytest.mark.parametrize(
    ("jobs", "closed", "finding"),
    [
        ([], False, None),
        ([upgrade_job("Failed")], False, None),
        ([upgrade_job("Complete")], True, "An upgrade of PostgreSQL was interrupted (Job postgres-upgrade-1)."),
        ([upgrade_job("Failed")], True, "An upgrade of PostgreSQL was interrupted, and left the database closed:"),
        ([], True, "An upgrade of PostgreSQL was interrupted, and left the database closed: the site answers 503."),
    ],
)
def test_database_that_an_upgrade_left_closed_is_a_finding(
    jobs: list[dict[str, Any]], closed: bool, finding: str | None
) -> None:
    """Its Job was killed too often, and its playbook as well: nothing else says why the site does not answer."""
    findings = check_unfinished({"site_preflight_upgrade": False}, jobs, closed)
    assert [each.startswith(finding or "") for each in findings] == ([True] if finding else [])
    assert check_unfinished({"site_preflight_upgrade": True}, jobs, closed) == []


class Claims:
    """A cluster whose server has the claim of this name."""

    def __init__(self, current: str, *claims: dict[str, Any]) -> None:
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": current}}
        self.server = {"spec": {"template": {"spec": {"volumes": [volume]}}}}
        self.claims = [{"metadata": each} for each in claims]

    def get(self, kind: str, *_: Any) -> dict[str, Any] | None:
        return self.server if kind == "StatefulSet" else None

    def list(self, kind: str, *_: Any) -> list[dict[str, Any]]:
        return self.claims if kind == "PersistentVolumeClaim" else []


def test_2_what_a_volume_alone_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what an upgrade noted on its claim."""
    monkeypatch.setattr(checks_upgrade, "check_volume", lambda *_: ({"prepared": True}, []))
    values = VALUES | {"storage_claim": "data", "storage_volume": "pv", "storage_path": "/data/pv"}
    old = {"name": "data", "annotations": {ALONE: "database kept"}}
    newer = {"name": "data-18", "labels": {DATA_OF: "site"}}
    claims = Claims("data-17", old, {"name": "data-17"}, newer, {"name": "another"})
    facts = find_data(SiteState(claims, values, NAMESPACE))
    assert facts["suffix"] == "-17"
    told = {each["claim"]: (each["alone"], each["labelled"]) for each in facts["others"]}
    assert told == {"data": ("database kept", False), "data-18": ("", True)}
