"""What the tests of other people's clusters share: kubectl beyond the site's namespace, and a site beside it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario import NAMESPACE, items, playbook

OTHER = f"{NAMESPACE}-other"


def everywhere(*arguments: str, stdin: str = "") -> str:
    """Run kubectl on the cluster, in no namespace of its own."""
    place = ("--kubeconfig", os.environ["SITE_KUBECONFIG"], "--context", os.environ["SITE_CONTEXT"])
    run = ["kubectl", *place, *arguments]
    return subprocess.run(run, input=stdin, text=True, check=True, capture_output=True).stdout


def apply(*objects: dict) -> None:
    """Apply objects, each in the namespace that it names."""
    everywhere("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def images() -> list[str]:
    """Arguments that take the images of the site as they are: an account without rights builds none."""
    web, database = (
        items(kind, "-l", f"app.kubernetes.io/component={component}")[0]["spec"]["template"]["spec"]["containers"]
        for kind, component in (("deployments", "web"), ("statefulsets", "database"))
    )
    variables = {"django_image": web[0], "django_proxy_image": web[1], "image_postgres_reference": database[0]}
    return ["-e", json.dumps({name: container["image"] for name, container in variables.items()})]


def other_site(name: str, *more: str) -> list[str]:
    """Arguments that make of a playbook's site another one."""
    port = {"other": 30855, "guest": 30857}[name]
    values = {"site_name": f"{NAMESPACE}-{name}", "site_namespace": f"{NAMESPACE}-{name}", "django_node_port": port}
    return ["-e", json.dumps(values), *images(), *more]


@pytest.fixture
def other() -> Iterator[None]:
    """Takes the site beside ours away."""
    yield
    playbook("playbooks/reset.yml", *other_site("other", "-e", "storage_kind=claim", "-e", "reset_data=true"))
    for what in (f"namespace/{OTHER}", f"namespace/{OTHER}-volume", f"persistentvolume/{OTHER}-pv"):
        everywhere("delete", what, "--ignore-not-found")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that every user may look into."""
    for each in [tmp_path, *tmp_path.parents][:3]:
        each.chmod(0o755)
    return tmp_path
