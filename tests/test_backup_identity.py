"""A private key that is given for one restore or drill: the cluster has it no longer than that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed_checksum import keyed_checksum
from conftest import ROOT, Project
from stand_ins.cluster import Cluster

SECRET, KEY, DJANGO_KEY = "postgres-backup-encryption", "AGE-SECRET-KEY-1X", "d" * 50


def run_end_of(playbook: str, project: Project, cluster: Cluster, folder: Path, known: dict[str, str]) -> str:
    """Run a playbook from where preflight has ended; it fails at the data, for there is no more than Secrets.

    Args:
        playbook: its name.
        project: the site's.
        cluster: where the Secrets are.
        folder: for the shortened playbook.
        known: name of each Secret that preflight has seen -> its checksum.
    """
    play = yaml.safe_load((ROOT / "playbooks" / playbook).read_text())[-1]
    (folder / "play.yml").write_text(json.dumps([play]))
    state = {"secrets": known, "namespace": {"exists": True}, "database": {"is_new": False}}
    state |= {"web": {"exists": True, "release": ""}, "server": {"image": "example.org/postgres:17"}}
    seen = {"site_state": state, "backup": "latest"}
    given = {"vault_backup_identity": KEY, "vault_django_secret_key": DJANGO_KEY}
    run = project.run(str(folder / "play.yml"), "-e", json.dumps(cluster.variables | seen | given))
    assert run.returncode != 0
    return run.stdout + run.stderr


@pytest.mark.parametrize("playbook", ["restore.yml", "restore_drill.yml"])
@pytest.mark.parametrize("before", ["nothing", "another key"])
def test_16_key_that_a_run_brings_goes_with_it(
    shared_project: Project, tmp_path: Path, playbook: str, before: str
) -> None:
    """Be it that the restore fails, as here."""
    with Cluster(tmp_path) as cluster:
        known = {SECRET: "of another"} if before == "another key" else {}
        if known:
            cluster.put(SECRET, identity="another")
        said = run_end_of(playbook, shared_project, cluster, tmp_path, known)
    assert cluster.changes == [("PATCH", SECRET), ("DELETE", SECRET)], said


@pytest.mark.parametrize("playbook", ["restore.yml", "restore_drill.yml"])
def test_key_that_a_deploy_made_stays(shared_project: Project, tmp_path: Path, playbook: str) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.put(SECRET, identity=KEY)
        known = {SECRET: keyed_checksum({"identity": KEY}, DJANGO_KEY)}
        said = run_end_of(playbook, shared_project, cluster, tmp_path, known)
    assert cluster.changes == [], said
