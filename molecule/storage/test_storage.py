"""Each kind of volume through the life of a site: rows stay but where their deletion is asked for, and that is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import provisioner
import pytest
from scenario import DATABASE, NAMESPACE, ask, changed, items, kubectl, matches, playbook, start_minikube, stop_minikube

IMAGE = "jsonpath={.spec.template.spec.containers[0].image}"
HOSTPATH: tuple[str, ...] = ()
CLASS = ("-e", "storage_kind=class", "-e", f"storage_class={provisioner.CLASS}")
# The claim of somebody else; and without TLS in the cluster, which nothing else tries.
CLAIM = ("-e", "storage_kind=claim", "-e", "storage_claim=theirs", "-e", "postgres_tls=false")


@pytest.fixture(scope="module", autouse=True)
def dynamic_volumes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The class is there."""
    with provisioner.running(tmp_path_factory.mktemp("provisioner"), kubectl("get", "sts/postgres", "-o", IMAGE)):
        yield


def deploy(kind: tuple[str, ...], *more: str) -> int:
    """Deploy the site on that kind of volume; return how many tasks changed something."""
    return changed(playbook("playbooks/deploy.yml", *kind, *more))


def refused(kind: tuple[str, ...], *more: str) -> str:
    """Deploy, which must fail before anything is touched; return what a user sees."""
    run = playbook("playbooks/deploy.yml", *kind, *more)
    assert run.returncode != 0
    assert "Nothing was touched" in run.stdout
    assert "changed=0" in run.stdout
    return run.stdout


def write(text: str) -> None:
    """Write a row through the site."""
    assert ask("/api/notes", {"text": text})[0] == 201


def reset_and_deploy(kind: tuple[str, ...], text: str) -> None:
    """The row is there after the site was taken away and brought back."""
    run = playbook("playbooks/reset.yml", *kind)
    assert run.returncode == 0, run.stdout
    assert items("pods,statefulsets,secrets") == []
    assert deploy(kind) > 0
    assert text in ask("/api/notes")[1]


def stop_and_start(text: str) -> None:
    """The row is there after minikube was stopped and started."""
    began = time.monotonic()
    stop_minikube()
    start_minikube()
    while True:
        try:
            assert text in ask("/api/notes")[1]
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() - began < 240
            time.sleep(1)
    print(f"\nminikube stopped and started, the site serves again after {time.monotonic() - began:.0f} s")


def delete_data(kind: tuple[str, ...]) -> str:
    """Take site and data away; return what is said about it."""
    began = time.monotonic()
    run = playbook("playbooks/reset.yml", *kind, "-e", "reset_data=true")
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"\n{' '.join(kind[1:2]) or 'hostpath'}: site and data away in {time.monotonic() - began:.0f} s")
    return run.stdout


def forget_the_volume() -> None:
    """What a new cluster on the same node begins with: the directory alone."""
    kubectl("delete", "namespace", NAMESPACE)
    kubectl("delete", "pv", f"{NAMESPACE}-pv")


def make_claim(name: str) -> None:
    """What somebody else does: the namespace, and a claim in it."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storageClassName": provisioner.CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    provisioner.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, claim)


def upgrade(kind: tuple[str, ...], *more: str) -> str:
    """Take the data to the major version of the variables; return what a user sees."""
    run = playbook("playbooks/upgrade_postgres.yml", *kind, *more)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def there(kind: str, name: str) -> bool:
    """Whether the cluster has this object."""
    return bool(kubectl("get", kind, name, "--ignore-not-found"))


def wait_until_gone(kind: str, name: str) -> None:
    """The provisioner takes its seconds."""
    kubectl("wait", "--for=delete", f"{kind}/{name}", "--timeout=60s")


def test_directory_on_the_node() -> None:
    """The site as converge left it."""
    write("on a directory")
    seen = refused(HOSTPATH, "-e", "storage_size=3Gi")
    assert "storage_size: the claim postgres-pvc has 2Gi and cannot become 3Gi: a hostPath volume does not grow" in seen
    assert "storage_size: '3 gigs' is no size of a volume" in refused(HOSTPATH, "-e", "storage_size='3 gigs'")
    assert deploy(HOSTPATH, "-e", "storage_size=2048Mi") == 0, "the same size in another unit"
    reset_and_deploy(HOSTPATH, "on a directory")
    stop_and_start("on a directory")


def test_status_says_how_the_database_is() -> None:
    """The same for one elsewhere is in external_db."""
    seen = playbook("playbooks/status.yml").stdout
    matches(
        seen,
        r"Volume of the data: [\d.]+ GB of [\d.]+ GB in use",
        "Last backup: none yet; playbooks/backup.yml makes one",
        "Last drill: none yet; playbooks/restore_drill.yml makes one",
        *DATABASE,
        r"certificate good for 36\d days",
    )


def test_full_volume_of_the_backups_is_told() -> None:
    """On a file system that really is full. The site goes on, and nothing of the backup is kept."""
    place = Path(f"/data/{NAMESPACE}-backups")
    place.mkdir(parents=True, exist_ok=True)
    os.chown(place, 999, 999)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], check=True)
    try:
        run = playbook("playbooks/backup.yml")
        assert run.returncode != 0
        said = re.findall(
            r"postgres_backup_size: the volume of the backups is full \(\d+ MB of \d+ MB free\)", run.stdout
        )
        assert said, run.stdout
        print(f"\n{said[0]}")
        assert [path.name for path in place.iterdir()] == [".lock"]
        assert "on a directory" in ask("/api/notes")[1]
        kubectl("delete", "job", "-l", "app.kubernetes.io/component=backup")
        kubectl("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=backup", "--timeout=60s")
    finally:
        subprocess.run(["umount", place], check=True)


def test_directory_outlives_its_cluster() -> None:
    """A new cluster knows nothing of it, and a new vault has other passwords than the database in it."""
    forget_the_volume()
    run = playbook("playbooks/deploy.yml", "-e", "secrets_postgres_app_password=of-another-vault")
    assert run.returncode != 0
    said = " ".join(run.stdout.split())
    assert "The database in the volume has another password for kube_boss than the vault" in said, said
    assert "Nothing in it was changed." in said
    assert items("jobs,deployments") == []
    forget_the_volume()
    assert deploy(HOSTPATH) > 0
    assert "on a directory" in ask("/api/notes")[1]
    forget_the_volume()


def test_directory_is_deleted_only_when_asked_for() -> None:
    """Even where its volume is gone."""
    place = Path(f"/data/{NAMESPACE}-pv")
    assert place.exists()
    said = delete_data(HOSTPATH)
    assert re.search(rf"deleted {place}, [\d.]+[MK]", said), said
    assert not place.exists()
    assert not there("pv", f"{NAMESPACE}-pv")
    assert not there("namespace", NAMESPACE)


def test_storage_class() -> None:
    began = time.monotonic()
    assert deploy(CLASS) > 0
    print(f"\nempty namespace to a site on a volume of a StorageClass: {time.monotonic() - began:.0f} s")
    write("on a class")
    assert deploy(CLASS) == 0
    claim = items("pvc")[0]
    assert (claim["spec"]["storageClassName"], claim["status"]["capacity"]["storage"]) == (provisioner.CLASS, "2Gi")
    reset_and_deploy(CLASS, "on a class")
    stop_and_start("on a class")
    assert items("pvc")[0]["spec"]["volumeName"] == claim["spec"]["volumeName"]


def test_size_of_a_class_grows_where_it_can() -> None:
    larger = ("-e", "storage_size=3Gi")
    seen = refused(CLASS, *larger)
    assert "the claim postgres-pvc has 2Gi and cannot become 3Gi: its StorageClass" in seen
    assert "does not say allowVolumeExpansion: true. Set storage_size to 2Gi." in seen
    assert "cannot become 1Gi: no volume shrinks" in refused(CLASS, "-e", "storage_size=1Gi")

    provisioner.apply(provisioner.storage_class(can_grow=True))
    run = playbook("playbooks/deploy.yml", *CLASS, *larger)
    assert changed(run) == 1
    # This provisioner grows nothing, whatever its class says.
    assert "asks for 3Gi now, and its volume still has 2Gi. Its class says that it can grow volumes" in run.stdout
    assert deploy(CLASS, *larger) == 0

    def grow() -> None:
        """What a provisioner that can grow volumes does in the end."""
        while items("pvc")[0]["spec"]["resources"]["requests"]["storage"] != "4Gi":
            time.sleep(0.3)
        name = items("pvc")[0]["spec"]["volumeName"]
        kubectl("patch", "pv", name, "-p", json.dumps({"spec": {"capacity": {"storage": "4Gi"}}}))
        capacity = json.dumps({"status": {"capacity": {"storage": "4Gi"}}})
        kubectl("patch", "pvc", "postgres-pvc", "--subresource=status", "-p", capacity)

    thread = threading.Thread(target=grow)
    thread.start()
    run = playbook("playbooks/deploy.yml", *CLASS, "-e", "storage_size=4Gi")
    thread.join()
    assert changed(run) == 1
    assert "The volume of the claim postgres-pvc has 4Gi now." in run.stdout
    assert "on a class" in ask("/api/notes")[1]


def test_claim_of_a_class_is_deleted_only_when_asked_for() -> None:
    volume = items("pvc")[0]["spec"]["volumeName"]
    said = delete_data((*CLASS, "-e", "storage_size=4Gi"))
    assert f"deleted the claim postgres-pvc, 4Gi, and with it its volume {volume} and the data" in said
    wait_until_gone("pv", volume)
    assert list(provisioner.FOLDER.iterdir()) == []
    assert not there("namespace", NAMESPACE)


def test_claim_of_somebody_else() -> None:
    seen = refused(CLAIM)
    assert f"storage_claim: there is no claim theirs in namespace {NAMESPACE}. Make it" in seen
    make_claim("theirs")
    assert deploy(CLAIM) > 0
    write("on a claim")
    assert json.loads(ask("/api/status")[1])["database"]["tls"] is None
    assert deploy(CLAIM) == 0
    reset_and_deploy(CLAIM, "on a claim")
    stop_and_start("on a claim")
    said = delete_data(CLAIM)
    assert "no data deleted: the claim theirs was not made here, so it and its volume are kept." in said
    assert "Kept, and so the namespace: theirs" in said
    assert [each["metadata"]["name"] for each in items("pvc")] == ["theirs"]
    assert items("pods,statefulsets,deployments,services,secrets") == []
    kubectl("delete", "namespace", NAMESPACE)


FIFTEEN = ("-e", "image_postgres_major=15")


def test_upgrade_takes_a_new_volume_of_the_class() -> None:
    """The old one stays until told otherwise; upgrades of a directory are in scenario upgrade."""
    assert deploy(CLASS, *FIFTEEN) > 0
    write("on a class, by 15")
    old = items("pvc")[0]["spec"]["volumeName"]
    assert "PostgreSQL is 17 now, on claim postgres-pvc-17." in upgrade(CLASS)
    claims = {claim["metadata"]["name"]: claim for claim in items("pvc")}
    assert {"postgres-pvc", "postgres-pvc-17"} <= set(claims)
    new = claims["postgres-pvc-17"]
    assert (new["spec"]["storageClassName"], new["status"]["capacity"]["storage"]) == (provisioner.CLASS, "2Gi")
    # The backup that was made first is on a volume of its own kind, whatever the command line says of the data's.
    backups = claims["postgres-backups"]["spec"]
    assert (backups["storageClassName"], backups["volumeName"]) == ("manual", f"{NAMESPACE}-backups")
    assert "on a class, by 15" in ask("/api/notes")[1]
    assert deploy(CLASS) == 0
    reset_and_deploy(CLASS, "on a class, by 15")
    said = upgrade(CLASS, "-e", "upgrade_delete_old=true")
    assert f"deleted the claim postgres-pvc, 2Gi, and with it its volume {old} and the data" in said
    wait_until_gone("pv", old)
    assert "on a class, by 15" in ask("/api/notes")[1]
    assert "deleted the claim postgres-pvc-17, 2Gi" in delete_data(CLASS)
    assert not there("namespace", NAMESPACE)


def test_upgrade_asks_for_a_claim_of_somebody_else() -> None:
    make_claim("theirs")
    assert deploy(CLAIM, *FIFTEEN) > 0
    write("on a claim, by 15")
    run = playbook("playbooks/upgrade_postgres.yml", *CLAIM)
    assert run.returncode != 0
    said = "the data of PostgreSQL 17 needs a claim of its own, theirs-17, beside theirs, which stays as it is. Make it"
    assert said in " ".join(run.stdout.split()), run.stdout
    assert "on a claim, by 15" in ask("/api/notes")[1]
    make_claim("theirs-17")
    assert "PostgreSQL is 17 now, on claim theirs-17." in upgrade(CLAIM)
    assert "on a claim, by 15" in ask("/api/notes")[1]
    assert deploy(CLAIM) == 0
    said = upgrade(CLAIM, "-e", "upgrade_delete_old=true")
    assert "no data deleted: the claim theirs was not made here, so it and its volume are kept." in said
    delete_data(CLAIM)
    assert {each["metadata"]["name"] for each in items("pvc")} == {"theirs", "theirs-17", "postgres-backups"}
    kubectl("delete", "namespace", NAMESPACE)
