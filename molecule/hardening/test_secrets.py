"""Passwords and keys are in the vault and in Secrets, and nowhere else.

Looked for after a deploy, failed migrations, crashes, a backup and a rotation, which told as much as they can.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from scenario import NAMESPACE, ask, items, kubectl, playbook, secret_values
from traces import Hunt

# Dies as a program in C does that has read all its secrets, after it has told all that a careless one would.
CRASH = """
import faulthandler, os, sys, time
import django
faulthandler.enable()
os.environ["DJANGO_SETTINGS_MODULE"] = "kubernetes_django.settings"
django.setup()
from django.db import connection
for _ in range(100):
    try:
        connection.ensure_connection()
        break
    except Exception:  # a new pod has no way to the database before its firewall knows it
        time.sleep(0.2)
print(dict(os.environ), sys.argv, connection, open("/proc/self/cmdline").read(), flush=True)
os.abort()
"""
KUBELET_LOGS = Path("/var/log/pods")
ETCD = Path("/var/lib/minikube/certs/etcd")


def planted() -> dict[str, str]:
    """What nobody may see: all that is in the Secrets but names and what is public of a certificate."""
    return {
        name: value
        for name, value in secret_values().items()
        if not name.endswith((".crt", "/namespace")) and "BEGIN CERTIFICATE" not in value
    }


def look_at_logs(hunt: Hunt) -> None:
    """What the pods that are there now, and the containers before theirs, have printed."""
    for pod in items("pods"):
        for options in ([], ["--previous"]):
            try:
                text = kubectl("logs", pod["metadata"]["name"], "--all-containers", "--ignore-errors", *options)
            except subprocess.CalledProcessError:  # there is none before
                continue
            hunt.look(f"logs of pods: {pod['metadata']['name']}", text)


def look_at_objects(hunt: Hunt) -> None:
    """Every object of the namespace, with its managed fields; of a Secret all but its data."""
    listed = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    found = (
        items(",".join(listed), "--show-managed-fields") + json.loads(kubectl("get", "pv,ns", "-o", "json"))["items"]
    )
    assert {"Pod", "Job", "Secret", "ConfigMap", "Deployment"} <= {item["kind"] for item in found}
    for item in found:
        if item["kind"] == "Secret":
            item.pop("data")
        hunt.look(f"objects: {item['kind']} {item['metadata']['name']}", json.dumps(item, ensure_ascii=False))


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Hunt:
    """All that a site goes through, told as loudly as Ansible can, and watched meanwhile."""
    logs = tmp_path_factory.mktemp("logs")
    loud = ["-vvv", "--diff", "-e", f"site_log_dir={logs}"]
    with Hunt() as hunt:
        hunt.add(planted())

        def run(name: str, *arguments: str, fails: bool = False) -> str:
            began = time.monotonic()
            done = playbook(f"playbooks/{name}.yml", *loud, *arguments)
            hunt.add(planted())
            hunt.look(f"output of plays: {name}", done.stdout + done.stderr)
            look_at_logs(hunt)
            look_at_objects(hunt)
            assert (done.returncode != 0) == fails, (done.stdout + done.stderr)[-3000:]
            print(f"{name} {' '.join(arguments)[:60]!r}: {time.monotonic() - began:.0f} s")
            return done.stdout

        # The Secrets are made, the migrations run, the pods are new.
        kubectl("delete", "secret", "django-settings", "postgres-owner")
        run("deploy", "-e", json.dumps({"django_environment": {"DJANGO_NOTES_WRITABLE": "true", "ROUND": "1"}}))
        crash = {"django_migrate_command": ["python", "-c", CRASH], "django_migrations_backoff_limit": 0}
        assert "Fatal Python error: Aborted" in run("deploy", "-e", json.dumps(crash), fails=True)
        # A worker of a web pod dies as well, and gunicorn tells of it.
        kill = f"import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), {signal.SIGABRT})"
        kubectl("exec", "deployment/kubernetes-django", "--", "python", "-c", kill)
        run("backup")
        run("rotate_credentials")
        assert ask("/api/status")[0] == 200
        hunt.look_into("files of the runs", logs)
    return hunt


def test_hunter_finds_what_is_there(tmp_path: Path) -> None:
    """In a text, in base64 among other things, in a file, in a process and its environment."""
    value = "planted-Value-0123456789"
    with Hunt() as hunt:
        hunt.add({"it": value})
        hunt.look("text: raw", f"a password={value};")
        for before in ("", "a", "ab", "user:"):
            hunt.look(f"text: base64 {len(before)}", base64.b64encode(f"{before}{value}, and more".encode()))
        (tmp_path / "file").write_bytes(b"\0\1\n" + value.encode() + b"\0\n")
        hunt.look_into("files", tmp_path)
        subprocess.run(["sleep", "1"], env=os.environ | {"LEAK": value}, check=True)
        subprocess.run(["python3", "-c", "import time; time.sleep(1)", value], check=True)
    assert len(hunt.places("text")) == 5
    assert len(hunt.places("files")) == 1
    assert len(hunt.places("processes")) == 2


def test_nothing_tells_a_secret(hunt: Hunt) -> None:
    """Pod logs, output of plays, objects and their annotations, Job specs, processes, crashes, files of the runs."""
    for kind, size in sorted(hunt.searched.items()):
        print(f"searched {kind}: {size / 1e6:.1f} MB")
    assert {"logs of pods", "output of plays", "objects", "files of the runs", "processes"} <= set(hunt.searched)
    assert hunt.found == set()


@pytest.mark.skipif(not os.access(KUBELET_LOGS, os.R_OK), reason="the node is not this machine")
def test_files_of_the_node(hunt: Hunt) -> None:
    """What kubelet keeps of the logs, and the backups. The data directory has nothing but hashes of passwords."""
    volumes = items("persistentvolumes")
    paths = [
        Path(volume["spec"]["hostPath"]["path"])
        for volume in volumes
        if volume["spec"].get("claimRef", {}).get("namespace") == NAMESPACE and "hostPath" in volume["spec"]
    ]
    assert len(paths) == 2, volumes
    hunt.look_into("files of the node", *paths, *KUBELET_LOGS.glob(f"{NAMESPACE}_*"))
    print(f"searched files of the node: {hunt.searched['files of the node'] / 1e6:.0f} MB")
    assert hunt.places("files of the node") == []


@pytest.mark.skipif(not shutil.which("ctr") or os.geteuid() != 0, reason="the node is not this machine")
def test_image_layers(hunt: Hunt, tmp_path: Path) -> None:
    images = {container["image"] for pod in items("pods") for container in pod["spec"]["containers"]}
    assert len(images) >= 2, images
    for number, image in enumerate(sorted(images)):
        archive, folder = tmp_path / f"{number}.tar", tmp_path / str(number)
        folder.mkdir()
        subprocess.run(["ctr", "-n", "k8s.io", "images", "export", archive, image], check=True, capture_output=True)
        subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
        archive.unlink()
        for blob in [path for path in folder.rglob("*") if path.is_file()]:
            if blob.read_bytes()[:2] == b"\x1f\x8b":
                blob.rename(blob.with_suffix(".gz"))
                subprocess.run(["gunzip", blob.with_suffix(".gz")], check=True)
    hunt.look_into("image layers", tmp_path)
    print(f"searched image layers: {hunt.searched['image layers'] / 1e6:.0f} MB")
    assert hunt.places("image layers") == []


@pytest.mark.skipif(not os.access(ETCD / "server.key", os.R_OK), reason="etcd's keys are not on this machine")
def test_etcd(hunt: Hunt) -> None:
    """Whatever etcd holds beside the Secrets themselves; and whether those are encrypted is told."""
    context = ssl.create_default_context(cafile=ETCD / "ca.crt")
    context.load_cert_chain(ETCD / "healthcheck-client.crt", ETCD / "healthcheck-client.key")
    whole = {"key": base64.b64encode(b"/").decode(), "range_end": base64.b64encode(b"\xff").decode()}
    request = urllib.request.Request("https://127.0.0.1:2379/v3/kv/range", data=json.dumps(whole).encode())
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        found = json.load(answer)["kvs"]
    secrets = []
    for each in found:
        key, value = base64.b64decode(each["key"]).decode(), base64.b64decode(each.get("value", ""))
        if key.startswith("/registry/secrets/"):
            secrets += [value] if key.startswith(f"/registry/secrets/{NAMESPACE}/") else []
        else:
            hunt.look(f"etcd: {key}", value)
    assert len(secrets) >= 4
    encrypted = all(value.startswith(b"k8s:enc:") for value in secrets)
    print(f"etcd: {len(found)} objects; the Secrets are {'encrypted' if encrypted else 'in the clear'} there")
    assert hunt.places("etcd") == []
