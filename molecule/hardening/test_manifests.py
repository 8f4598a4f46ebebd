"""The API server itself judges every manifest there is, in a namespace that enforces Pod Security `restricted`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from scenario import NAMESPACE, ROOT, kubectl, playbook

# In a namespace of their own that is there for a second, or no part of what is deployed into this one.
ELSEWHERE = {"directory.job.yaml", "directory.namespace.yaml", "site.namespace.yaml", "volume.persistentvolume.yaml"}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All templates, as for a site under another name in this namespace: nothing of them is there yet."""
    out = tmp_path_factory.mktemp("manifests")
    variables = {
        "out": str(out),
        "templates": [str(path) for path in ROOT.glob("roles/*/templates/*.yaml.j2")],
        "site_namespace": NAMESPACE,
        "postgres_name": "judged",
        "postgres_service": "judged",
        "django_name": "judged",
        "django_service": "judged",
        "django_node_port": 30899,
        "storage_claim": "judged",
        "postgres_backup_schedule": "@daily",
        "postgres_drill_schedule": "@weekly",
        "postgres_external_host": "db.example.org",
    }
    # In the tests' own inventory: the user's may have a vault of theirs.
    run = playbook("tests/render.yml", "-e", "@tests/variables/defaults.yml", "-e", json.dumps(variables))
    assert run.returncode == 0, run.stdout + run.stderr
    return out


def judge(text: str) -> str:
    """What the API server says to these manifests, which are not kept; `warn` tells of pods that it would not admit."""
    place = ["--kubeconfig", os.environ["SITE_KUBECONFIG"], "--context", os.environ["SITE_CONTEXT"], "-n", NAMESPACE]
    apply = ["apply", "--server-side", "--dry-run=server", "--field-manager=judge", "--force-conflicts", "-f", "-"]
    run = subprocess.run(["kubectl", *place, *apply], input=text, capture_output=True, text=True, check=False)
    return run.stderr


def test_server_accepts_every_manifest(rendered: Path) -> None:
    assert json.loads(kubectl("get", "namespace", NAMESPACE, "-o", "json"))["metadata"]["labels"].items() >= {
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/warn", "restricted"),
    }
    files = [path for path in sorted(rendered.glob("*.yaml")) if path.name not in ELSEWHERE]
    assert len(files) > 20
    assert judge("\n---\n".join(path.read_text() for path in files)) == ""
    print(f"{len(files)} files of manifests accepted by the API server, with no warning")


def test_server_warns_of_what_is_not_restricted(rendered: Path) -> None:
    """The judge of the test above is no yes-man."""
    deployment = next(yaml.safe_load_all((rendered / "django.deployment.yaml").read_text().partition("---")[2]))
    del deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "unrestricted capabilities" in judge(json.dumps(deployment))
    deployment["spec"]["replica"] = 2
    assert "unknown field" in judge(json.dumps(deployment)) or "field not declared" in judge(json.dumps(deployment))
