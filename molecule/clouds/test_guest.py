"""A guest's deploy: a namespace that was given, rights in it alone, a login by a program, not root, and from a Mac."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import macos
import pytest
from conftest import apply, everywhere, other_site
from scenario import NAMESPACE, ROOT, TOOLS, WITHOUT_COLOURS

GUEST = f"{NAMESPACE}-guest"
NOBODY = 65534
# Logs in as a cloud's program does: prints a credential, here of a ServiceAccount.
LOGIN = """#!{python}
import json, os, pathlib
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
with open({log!r}, "a") as log:
    log.write("asked\\n")
status = {{"token": pathlib.Path({token!r}).read_text()}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


def given_objects(directory: Path) -> list[dict]:
    """A namespace with somebody else's pod, a claim of this directory, and the rights of the role `edit`."""
    name, size = {"namespace": GUEST}, {"storage": "1Gi"}
    access = {"storageClassName": "manual", "accessModes": ["ReadWriteOnce"]}
    volume = {"capacity": size, "claimRef": {"name": "given"} | name, "hostPath": {"path": str(directory)}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GUEST}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guest"} | name},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "guest"} | name,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "guest", "namespace": GUEST}],
        },
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": GUEST}, "spec": access | volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "given"} | name,
            "spec": access | {"resources": {"requests": size}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "stranger"} | name,
            "spec": {"nodeSelector": {"example.org/none": "x"}, "containers": [{"name": "a", "image": "a"}]},
        },
    ]


@pytest.fixture(scope="module")
def namespace() -> Iterator[None]:
    """What an administrator gives."""
    directory = Path(f"/data/{GUEST}")
    directory.mkdir(parents=True, exist_ok=True)
    os.chown(directory, 999, 999)
    directory.chmod(0o700)
    apply(*given_objects(directory))
    yield
    everywhere("delete", "namespace", GUEST)
    everywhere("delete", "persistentvolume", GUEST)
    shutil.rmtree(directory)


class Guest:
    """Somebody who is not root, and may read files as root may, for the tools of the tests may be anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "asked"
        token = folder / "token"
        token.write_text(everywhere("create", "token", "guest", "-n", GUEST, "--duration=2h").strip())
        login = folder / "login"
        login.write_text(LOGIN.format(python=sys.executable, log=str(self.log), token=str(token)))
        login.chmod(0o755)
        config = json.loads(everywhere("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        execute = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(login), "interactiveMode": "Never"}
        config["users"] = [{"name": "guest", "user": {"exec": execute}}]
        config["contexts"] = [{"name": "cloud", "context": {"cluster": config["clusters"][0]["name"], "user": "guest"}}]
        (folder / "cloud").write_text(json.dumps(config))
        another = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
        (folder / "another").write_text(json.dumps(another))
        for each in [folder, *folder.iterdir()]:
            os.chown(each, NOBODY, NOBODY)
        self.programs = folder / "programs"
        self.programs.mkdir()
        macos.install(self.programs)

    def _home(self) -> dict[str, str]:
        """A home: the system has none for this user."""
        ansible = self.folder / ".ansible"
        return {"HOME": str(self.folder), "ANSIBLE_HOME": str(ansible), "ANSIBLE_REMOTE_TEMP": str(ansible / "tmp")}

    def play(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook on the site in the given namespace."""
        user = ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        login = {
            "cluster_kubeconfig": ":".join(str(self.folder / name) for name in ("another", "missing", "cloud")),
            "cluster_context": "cloud",
            "cluster_provider": "existing",
            "storage_kind": "claim",
            "storage_claim": "given",
        }
        place = ["-i", os.environ["SITE_INVENTORY"], *other_site("guest", "-e", json.dumps(login))]
        return subprocess.run(
            [*user, TOOLS / "ansible-playbook", *place, name, *arguments],
            cwd=ROOT,
            env=os.environ | WITHOUT_COLOURS | self._home() | {"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def guest(namespace: None, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    folder = tmp_path_factory.mktemp("guest")
    for each in [folder, *folder.parents][:3]:
        each.chmod(0o755)
    return Guest(folder)


def test_whole_deploy(guest: Guest) -> None:
    """Beside a stranger's pod, with no right to see nodes, classes or other namespaces, and with a Mac's programs."""
    run = guest.play("playbooks/deploy.yml")
    said = " ".join((run.stdout + run.stderr).split())
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"The user of this context may not label namespace {GUEST}" in said
    assert f"kubectl label --overwrite namespace {GUEST} app.kubernetes.io/part-of={GUEST}" in said
    assert "port-forward service/django-service 8000:8000, then http://127.0.0.1:8000/" in said
    assert guest.log.read_text().startswith("asked\n")
    again = guest.play("playbooks/deploy.yml")
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout


def test_what_was_given_stays(guest: Guest) -> None:
    run = guest.play("playbooks/reset.yml", "-e", "reset_data=true")
    assert run.returncode == 0, run.stdout + run.stderr
    left = everywhere("get", "pods,persistentvolumeclaims", "-n", GUEST, "-o", "name").split()
    assert left == ["pod/stranger", "persistentvolumeclaim/given"]


def test_missing_right_is_named(guest: Guest) -> None:
    """Of an account that may only look."""
    binding = json.loads(everywhere("get", "rolebinding", "guest", "-n", GUEST, "-o", "json"))
    everywhere("delete", "rolebinding", "guest", "-n", GUEST)
    for name in ("resourceVersion", "uid", "creationTimestamp"):
        binding["metadata"].pop(name)
    try:
        apply(binding | {"roleRef": binding["roleRef"] | {"name": "view"}})
        run = guest.play("playbooks/deploy.yml")
    finally:
        everywhere("delete", "rolebinding", "guest", "-n", GUEST)
        apply(binding)
    assert run.returncode != 0
    assert "cluster_context: the user of context cloud may not get, list, create, patch, delete secrets;" in run.stdout
    assert "get, create pods/exec" in run.stdout
    assert "changed=0" in run.stdout
