"""A claim that one node has at a time, on a cluster of several nodes: where the Jobs go, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from conftest import ROOT
from rendered import render

sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_backups import check_node

VALUES = {"site_namespace": "site", "postgres_name": "postgres", "postgres_backup_claim": "backups"}
TEMPLATES = ROOT / "roles" / "postgres" / "templates"
EVERYTHING = yaml.safe_load((ROOT / "tests" / "variables" / "everything.yml").read_text())


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


WHERE = {"archive": (True, "volume"), "no-archive": (False, "volume"), "archive-in-bucket": (True, "s3")}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The backups' CronJob, with the archive on each of these places."""
    sets = {
        name: EVERYTHING | {"postgres_archive": archive, "postgres_archive_storage": storage}
        for name, (archive, storage) in WHERE.items()
    }
    rendered = render(tmp_path_factory.mktemp("jobs"), [TEMPLATES / "postgres-backup.cronjob.yaml.j2"], sets)
    return {name: files["postgres-backup.cronjob.yaml"][0] for name, files in rendered.items()}


@pytest.mark.parametrize("where", WHERE)
def test_job_runs_beside_the_server_that_has_its_claim(jobs: dict[str, dict[str, Any]], where: str) -> None:
    required = where == "archive"
    affinity = jobs[where]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    ((how, (term,)),) = affinity.items()
    labels = term.get("podAffinityTerm", term)["labelSelector"]["matchLabels"]
    assert how.startswith("required" if required else "preferred")
    assert labels["app.kubernetes.io/component"] == ("database" if required else "backup")
