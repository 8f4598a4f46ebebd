"""With --check, no playbook changes anything: not an object, a row, a role, the log's position, a file or a lease."""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from pathlib import Path

import pytest
from scenario import (
    NAME,
    NAMESPACE,
    ROOT,
    as_they_are,
    changed,
    differences,
    kubectl,
    playbook,
    sql,
    wait_for_base_backup,
)

# Those of the site that are compared; a Node, a Lease of a node and events change by themselves.
KINDS = (
    "pods,services,statefulsets,deployments,replicasets,jobs,cronjobs,configmaps,secrets,persistentvolumeclaims,"
    "networkpolicies,resourcequotas,limitranges,poddisruptionbudgets,horizontalpodautoscalers,ingresses,"
    "serviceaccounts,roles,rolebindings,leases"
)
VARIABLES = f"@{Path(__file__).parent}/vars/check.yml"
MOMENT = "the moment of the backup"
# Each playbook -> the ways in which it is run, with something to do.
RUNS: dict[str, list[list[str]]] = {
    "backup.yml": [[]],
    "backups.yml": [[]],
    "cluster.yml": [[]],
    "deploy.yml": [
        ["-e", "django_replicas=3"],
        ["-e", '{"postgres_settings": {"work_mem": "8MB"}, "image_build_args": {"OTHER": "1"}}'],
    ],
    "deploy_account.yml": [["-e", "deploy_account_kubeconfig={folder}/account"]],
    "destroy.yml": [[], ["-e", "reset_data=true"]],
    "image.yml": [["-e", '{"image_build_args": {"OTHER": "1"}}']],
    "init.yml": [[]],
    "migrate.yml": [[], ["-e", "django_migrate_target=notes.zero"]],
    "preflight.yml": [[]]
    + [
        ["-e", f'{{"site_preflight_roles": ["site", "{role}"]}}']
        for role in ("namespace", "storage", "secrets", "postgres", "django")
    ],
    "releases.yml": [[]],
    "reset.yml": [[], ["-e", "reset_data=true", "-e", "reset_backups=true"]],
    "restore.yml": [["-e", "backup=latest"], ["-e", f"to_time='{MOMENT}'"]],
    "restore_drill.yml": [[]],
    "rollback.yml": [[]],
    "rotate_credentials.yml": [[]],
    "status.yml": [[]],
    "upgrade_postgres.yml": [["-e", "image_postgres_major=17"], ["-e", "upgrade_delete_old=true"]],
    "variables.yml": [[]],
    "vault.yml": [[], ["-e", "recover=true"]],
}


@pytest.fixture(scope="module")
def moment() -> str:
    """Let there be something to do: a backup, a release to go back to, and a moment to restore."""
    wait_for_base_backup()
    assert changed(playbook("playbooks/backup.yml", "-e", VARIABLES)) > 0
    assert changed(playbook("playbooks/deploy.yml", "-e", VARIABLES, "-e", "django_status_details=false")) > 0
    assert changed(playbook("playbooks/deploy.yml", "-e", VARIABLES)) > 0
    settle()
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def settle() -> None:
    """Wait until controllers have ended what the last playbook began: nothing is on its way out, or changes in 3 s."""
    seen = as_they_are(KINDS)
    for _ in range(20):
        time.sleep(3)
        before, seen = seen, as_they_are(KINDS)
        if before == seen and not any("deletionTimestamp" in each["metadata"] for each in seen.values()):
            return
    raise AssertionError("the site's objects change all the time")


def files(folder: Path) -> dict[str, str]:
    """File -> hash of its content. What pgBackRest and a build note of their own work is left out."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix not in (".lock", ".log", ".pyc")
    }


def everything() -> dict[str, object]:
    """All that a playbook could have changed."""
    cluster = kubectl("get", "namespaces,persistentvolumes", "-l", f"app.kubernetes.io/part-of={NAME}", "-o", "name")
    inventory = Path(os.environ["SITE_INVENTORY"]).parent
    volumes = Path("/data")
    return {
        "objects": as_they_are(KINDS),
        "of the cluster": cluster,
        "rows": sql("select string_agg(n::text, ' ' order by n) from notes_note n"),
        "databases": sql("select string_agg(d::text, ' ' order by datname) from pg_database d"),
        "roles": sql("select string_agg(a::text, ' ' order by rolname) from pg_authid a"),
        "log": sql("select pg_walfile_name(pg_current_wal_lsn())"),
        "backups": sorted(str(path) for path in volumes.glob(f"{NAMESPACE}-backups/*")),
        "volumes": sorted(str(path) for path in volumes.glob(f"{NAMESPACE}*")),
        "inventory": files(inventory),
        "kubeconfig": Path(os.environ["SITE_KUBECONFIG"]).read_text(),
        "checkout": files(ROOT / "group_vars"),
    }


def test_every_playbook_is_here() -> None:
    assert set(RUNS) == {path.name for path in (ROOT / "playbooks").glob("*.yml")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name, runs in RUNS.items() for arguments in runs],
    ids=lambda value: value if isinstance(value, str) else " ".join(value).replace("-e ", ""),
)
def test_5_check_changes_nothing(name: str, arguments: list[str], moment: str, tmp_path: Path) -> None:
    given = [each.replace(MOMENT, moment).replace("{folder}", str(tmp_path)) for each in arguments]
    before = everything()
    run = playbook(f"playbooks/{name}", "--check", "--diff", "-e", VARIABLES, *given)
    assert run.returncode == 0, run.stdout + run.stderr
    assert differences(before, everything()) == {}
    assert list(tmp_path.iterdir()) == []
