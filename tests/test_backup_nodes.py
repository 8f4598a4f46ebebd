"""A claim that one node has at a time, on a cluster of several nodes: where the Jobs go, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project

sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_backups import check_node

VALUES = {"site_namespace": "site", "postgres_name": "postgres", "postgres_backup_claim": "backups"}
TEMPLATES = ROOT / "roles" / "postgres" / "templates"


def pod(name: str, node: str | None, claim: str, phase: str = "Running") -> dict[str, Any]:
    """A pod that mounts a claim."""
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "it", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "metadata": {"name": name},
        "spec": {"volumes": volumes} | ({"nodeName": node} if node else {}),
        "status": {"phase": phase},
    }


class Objects:
    """What a cluster has, instead of one with several nodes."""

    def __init__(self, mode: str, pods: list[dict[str, Any]]) -> None:
        self.mode, self.pods = mode, pods

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        assert (kind, namespace) == ("PersistentVolumeClaim", "site")
        return {"spec": {"accessModes": [self.mode]}} if name == "backups" else None

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        assert (kind, namespace) == ("Pod", "site")
        return self.pods


def test_claim_on_another_node_is_refused_in_a_sentence() -> None:
    pods = [pod("postgres-0", "one", "data"), pod("postgres-backup-x", "two", "backups")]
    assert check_node(Objects("ReadWriteOnce", pods), VALUES) == [
        "postgres_archive: the claim backups is on one node at a time (ReadWriteOnce). Pod postgres-backup-x has it on "
        "node two, and the server, which keeps its archive on it, is on one. Wait for the pod's end, or let the "
        "archive be in the bucket (postgres_archive_storage: s3)."
    ]


@pytest.mark.parametrize(
    ("mode", "other"),
    [
        ("ReadWriteMany", pod("postgres-backup-x", "two", "backups")),
        ("ReadWriteOnce", pod("postgres-backup-x", "one", "backups")),
        ("ReadWriteOnce", pod("postgres-backup-x", "two", "backups", phase="Succeeded")),
        ("ReadWriteOnce", pod("postgres-backup-x", None, "backups", phase="Pending")),
        ("ReadWriteOnce", pod("kubernetes-django-x", "two", "media")),
    ],
)
def test_claim_that_is_free_is_not_refused(mode: str, other: dict[str, Any]) -> None:
    assert check_node(Objects(mode, [pod("postgres-0", "one", "data"), other]), VALUES) == []


@pytest.mark.parametrize(
    ("variables", "required"),
    [
        ({"postgres_archive": True, "postgres_archive_storage": "volume"}, True),
        ({"postgres_archive": False, "postgres_archive_storage": "volume"}, False),
        ({"postgres_archive": True, "postgres_archive_storage": "s3"}, False),
    ],
)
def test_job_runs_beside_the_server_that_has_its_claim(
    shared_project: Project, tmp_path: Path, variables: dict[str, Any], required: bool
) -> None:
    templates = [str(TEMPLATES / "postgres-backup.cronjob.yaml.j2")]
    given = {"out": str(tmp_path), "templates": templates} | variables
    base = f"@{ROOT / 'tests' / 'variables' / 'everything.yml'}"
    run = shared_project.run("tests/render.yml", "-e", base, "-e", json.dumps(given))
    assert run.returncode == 0, run.stdout + run.stderr
    job = yaml.safe_load((tmp_path / "postgres-backup.cronjob.yaml").read_text())
    affinity = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    ((how, (term,)),) = affinity.items()
    labels = term.get("podAffinityTerm", term)["labelSelector"]["matchLabels"]
    assert how.startswith("required" if required else "preferred")
    assert labels["app.kubernetes.io/component"] == ("database" if required else "backup")
