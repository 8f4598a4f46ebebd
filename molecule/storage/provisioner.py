"""A StorageClass that provisions: local-path-provisioner from its Go module, as a process of this node.

minikube's own provisioner needs an image that not every machine can have; this one's helper pods run in any image.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
from scenario import NAMESPACE

HERE = Path(__file__).resolve().parent
PLACE = f"{NAMESPACE}-provisioner"
CLASS = f"{NAMESPACE}-class"
FOLDER = Path(f"/data/{NAMESPACE}-class")
SETUP = '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n'
TEARDOWN = '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n'
# The pods that make and delete directories on the node.
HELPER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "helper-pod"},
    "spec": {
        "securityContext": {"runAsUser": 0},
        "containers": [{"name": "helper-pod", "imagePullPolicy": "IfNotPresent"}],
    },
}


def everywhere(*arguments: str, stdin: str = "") -> str:
    """Run kubectl on the cluster, in no namespace of its own."""
    place = ("--kubeconfig", os.environ["SITE_KUBECONFIG"], "--context", os.environ["SITE_CONTEXT"])
    run = ["kubectl", *place, *arguments]
    return subprocess.run(run, input=stdin, text=True, check=True, capture_output=True).stdout


def apply(*objects: dict) -> None:
    """Apply objects, each in the namespace that it names."""
    everywhere("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def storage_class(can_grow: bool) -> dict:
    """The class, which says or does not say that it can grow volumes."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": f"example.org/{CLASS}",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": can_grow,
    }


@contextmanager
def running(folder: Path, image: str) -> Iterator[None]:
    """The class, and its provisioner until the end of the block; what is left of them destroy.yml takes away.

    Args:
        folder: for its files and its log.
        image: of the pods that make and delete directories on the node; one that is there.
    """
    program = programs.build(HERE / "local-path", "github.com/rancher/local-path-provisioner")
    paths = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(FOLDER)]}]
    (container,) = HELPER["spec"]["containers"]
    helper = HELPER | {"spec": HELPER["spec"] | {"containers": [container | {"image": image}]}}
    files = {
        "config.json": json.dumps({"nodePathMap": paths}),
        "helperPod.yaml": json.dumps(helper),
        # The program takes no context, only the current one.
        "kubeconfig": everywhere("config", "view", "--minify", "--flatten"),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    scripts = {"setup": SETUP, "teardown": TEARDOWN}
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts", "namespace": PLACE}, "data": scripts},
        storage_class(can_grow=False),
    )
    command = [program, "start", "--kubeconfig", folder / "kubeconfig", "--namespace", PLACE]
    command += ["--provisioner-name", f"example.org/{CLASS}", "--helper-image", image, "--configmap-name", "scripts"]
    command += ["--service-account-name", "default", "--config", folder / "config.json"]
    command += ["--helper-pod-file", folder / "helperPod.yaml"]
    with (folder / "provisioner.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            time.sleep(1)
            assert process.poll() is None, (folder / "provisioner.log").read_text()
            yield
        finally:
            process.terminate()
            process.wait()
