"""Stands for the Kubernetes API where only Secrets are asked for: it keeps what is applied until it is deleted."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from test_bad_input import write_kubeconfig

VERBS = ["create", "delete", "get", "list", "patch"]
SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": VERBS}
DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [SECRETS]},
}


class Cluster:
    """One with a namespace of Secrets; `kubeconfig` names it, by the context `stand-in`.

    Attributes:
        secrets: name of each -> the object.
        changes: the method and name of each change, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[str, str]] = []
        handler = type("Bound", (Handler,), {"cluster": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        server = f"http://127.0.0.1:{self.server.server_port}"
        self.kubeconfig = write_kubeconfig(folder / "stand-in.kubeconfig", server, "stand-in")
        # As group_vars take them.
        self.variables = {"site_kubeconfig": str(self.kubeconfig), "site_context": "stand-in"}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, name: str, **values: str) -> None:
        """Have a Secret."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.secrets[name] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


class Handler(BaseHTTPRequestHandler):
    """The requests."""

    cluster: Cluster

    def answer(self, content: Any) -> None:
        """Send JSON; nothing is 404."""
        text = json.dumps({"kind": "Status", "code": 404, "message": "not found"} if content is None else content)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def name(self) -> str:
        """Of the Secret that the path leads to; empty for the list and for all else."""
        place, _, name = self.path.partition("?")[0].partition("/secrets/")
        return name if place.startswith("/api/v1/namespaces/") else ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/secrets"):
            self.answer({"kind": "SecretList", "apiVersion": "v1", "items": list(self.cluster.secrets.values())})
        else:
            self.answer(DISCOVERY.get(path) or self.cluster.secrets.get(self.name()))

    def do_PATCH(self) -> None:
        made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "dryRun" not in self.path:
            self.cluster.secrets[self.name()] = made
            self.cluster.changes.append(("PATCH", self.name()))
        self.answer(made)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.cluster.changes.append(("DELETE", self.name()))
        self.answer(self.cluster.secrets.pop(self.name(), None))

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
