"""What a run waited for in vain: it says why within a minute, and the next one does not repeat it once it is mended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from conftest import OTHER, apply, everywhere, other_site
from scenario import NAMESPACE, items, kubectl, playbook


@pytest.fixture
def storage_class(request: pytest.FixtureRequest) -> str:
    """A class whose provisioner does not run."""
    name = f"{NAMESPACE}-{request.param.lower()}"
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    apply(storage | {"provisioner": "example.org/nobody", "volumeBindingMode": request.param})
    yield name
    everywhere("delete", "storageclass", name)


@pytest.mark.parametrize("storage_class", ["Immediate", "WaitForFirstConsumer"], indirect=True)
def test_claim_that_nobody_provisions(storage_class: str, other: None) -> None:
    site = other_site("other", "-e", "storage_kind=class", "-e", f"storage_class={storage_class}")
    began = time.monotonic()
    run = playbook("playbooks/deploy.yml", *site)
    seconds = time.monotonic() - began
    assert run.returncode != 0
    cause = run.stdout[run.stdout.rindex("is not ready: ") :]
    assert "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner" in cause
    assert "example.org/nobody" in cause
    print(f"claim that nobody provisions, {storage_class}: {seconds:.0f} s")


def test_directory_that_was_refused_and_mended(other: None) -> None:
    """By a Job on the node, as every cluster of one node but minikube's driver none has it."""
    path = Path(f"/data/{OTHER}-pv")
    path.mkdir(parents=True)
    (path / "file").write_text("of somebody else")
    place = {"storage_node_is_here": False, "storage_path": str(path), "storage_volume": f"{OTHER}-pv"}
    site = other_site("other", "--tags", "storage", "-e", json.dumps(place))
    run = playbook("playbooks/deploy.yml", *site)
    assert run.returncode != 0
    assert f"storage_path: {path} on the node is not empty and belongs to user 0, not 999" in run.stdout
    os.chown(path, 999, 999)
    (path / "file").unlink()
    run = playbook("playbooks/deploy.yml", *site)
    assert run.returncode == 0, run.stdout
    path.rmdir()


def test_image_that_came_later(other: None) -> None:
    """The Job whose image could not be had is gone with its failure: it does not begin by itself, hours later."""
    path = Path(f"/data/{OTHER}-pv")
    place = {"storage_node_is_here": False, "storage_path": str(path), "storage_volume": f"{OTHER}-pv"}
    site = other_site("other", "--tags", "storage", "-e", json.dumps(place))
    run = playbook("playbooks/deploy.yml", *site, "-e", "image_postgres_reference=localhost/there-is-none:17")
    assert run.returncode != 0
    assert "ImagePullBackOff" in run.stdout
    assert "Its pod never ran, so the Job was deleted: nothing of it happens later." in run.stdout
    assert json.loads(everywhere("get", "jobs", "-n", f"{OTHER}-volume", "-o", "json"))["items"] == []
    run = playbook("playbooks/deploy.yml", *site)
    assert run.returncode == 0, run.stdout


def test_migrations_that_failed_are_run_again() -> None:
    """Under the same name, for nothing changed but what was wrong: here a file in the database's place."""
    name = json.loads(kubectl("get", "deployment", "kubernetes-django", "-o", "json"))["metadata"]["annotations"][
        "kubernetes-django/migrations-job"
    ]
    command = ["sh", "-c", "test -e /run/secrets/mended/key"]
    variables = {
        "django_before_migrate": [command],
        "django_volumes": [{"name": "mended", "secret": {"secretName": "mended", "optional": True}}],
        "django_volume_mounts": [{"name": "mended", "mountPath": "/run/secrets/mended"}],
    }
    arguments = ["playbooks/deploy.yml", "-e", json.dumps(variables)]
    try:
        run = playbook(*arguments)
        assert run.returncode != 0
        assert "PodFailurePolicy" in run.stdout
        kubectl("create", "secret", "generic", "mended", "--from-literal=key=value")
        run = playbook(*arguments)
        assert run.returncode == 0, run.stdout
    finally:
        kubectl("delete", "secret", "mended", "--ignore-not-found")
        back = playbook("playbooks/deploy.yml")
    assert back.returncode == 0, back.stdout
    assert name in [job["metadata"]["name"] for job in items("jobs")]


def test_pods_that_were_left_without_hope_are_tried_at_once() -> None:
    """A database that cannot use its directory is mended on the node: the kubelet alone would wait for minutes."""
    path = Path(f"/data/{NAMESPACE}-pv")
    owner = path.stat().st_uid
    os.chown(path, 0, 0)
    try:
        kubectl("delete", "pod", "postgres-0", "--wait=false")
        run = playbook("playbooks/deploy.yml")
        assert run.returncode != 0
        assert "StatefulSet postgres is not ready: " in run.stdout
    finally:
        os.chown(path, owner, owner)
    # As after an evening: the pauses between two tries have grown.
    run = playbook("playbooks/deploy.yml")
    assert run.returncode == 0, run.stdout
