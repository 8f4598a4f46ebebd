"""A real ingress controller: skipper, from its Go module, as a process of this machine.

It listens on 127.0.0.1 alone, and reads the site's namespace with a login that may do no more than that.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import programs
from scenario import NAMESPACE, kubectl

HERE = Path(__file__).resolve().parent
NAME = {"metadata": {"name": "skipper", "namespace": NAMESPACE}}
RBAC = "rbac.authorization.k8s.io"
READ = {"verbs": ["get", "list"]}
LOGIN = [
    {"apiVersion": "v1", "kind": "ServiceAccount", **NAME},
    {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        **NAME,
        "rules": [
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], **READ},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **READ},
            {"apiGroups": [""], "resources": ["services", "secrets"], **READ},
        ],
    },
    {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        **NAME,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "skipper"},
        "subjects": [{"kind": "ServiceAccount", "name": "skipper", "namespace": NAMESPACE}],
    },
]


@dataclass
class Controller:
    """Where it listens on 127.0.0.1, and where its log is."""

    tls: int
    plain: int
    log: Path


@contextmanager
def running(folder: Path) -> Iterator[Controller]:
    """The controller until the end of the block; it also ends when the tests are killed.

    Args:
        folder: for its files and its log.
    """
    program = programs.build(HERE / "skipper", "github.com/zalando/skipper/cmd/skipper")
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": LOGIN}))
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "-o", "json"))
    cluster = config["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (folder / "token").write_text(kubectl("create", "token", "skipper", "--duration=1h"))
    here = Controller(programs.free_port(), programs.free_port(), folder / "skipper.log")
    command = ["setpriv", "--pdeathsig", "KILL", program, "-kubernetes", f"-kubernetes-url={cluster['server']}"]
    command += [f"-kubernetes-token-file={folder / 'token'}", f"-kubernetes-namespace={NAMESPACE}"]
    command += [f"-kubernetes-ingress-class=^{NAMESPACE}$", "-enable-kubernetes-endpointslices"]
    command += ["-kubernetes-enable-tls", f"-address=127.0.0.1:{here.tls}", f"-insecure-address=127.0.0.1:{here.plain}"]
    command += ["-forwarded-headers=X-Forwarded-For,X-Forwarded-Proto=auto"]
    command += [
        "-wait-first-route-load",
        "-wait-for-healthcheck-interval=0",
        "-support-listener=",
        "-metrics-listener=",
    ]
    with here.log.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"SSL_CERT_FILE": str(folder / "ca.crt")})
        try:
            for port in (here.tls, here.plain):
                programs.wait_for_port("127.0.0.1", port, process, here.log)
            yield here
        finally:
            process.terminate()
            process.wait()
