"""A command in a pod, where the connection to it is lost: servers under load close one before they have used it."""

from __future__ import annotations

import base64
import hashlib
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Channel 1 is standard output, 3 how the command ended; each a frame of a websocket, binary and whole.
WORKED = [b"\x01done\n", b'\x03{"metadata":{},"status":"Success"}']


class Api(socketserver.ThreadingTCPServer):
    """Takes the websocket of a command, and closes it at once as often as it is told to."""

    allow_reuse_address = daemon_threads = True
    block_on_close = False

    def __init__(self, losses: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.losses, self.asked = losses, 0


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        lines = iter(self.rfile.readline, b"\r\n")
        headers = dict(line.decode().strip().split(": ", 1) for line in list(lines)[1:])
        self.server.asked += 1
        digest = base64.b64encode(hashlib.sha1((headers["Sec-WebSocket-Key"] + ACCEPT).encode()).digest()).decode()
        answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        answer += [f"Sec-WebSocket-Accept: {digest}", "Sec-WebSocket-Protocol: v4.channel.k8s.io", "", ""]
        self.wfile.write("\r\n".join(answer).encode())
        if self.server.asked > self.server.losses:
            for frame in WORKED:
                self.wfile.write(bytes((0x82, len(frame))) + frame)
            self.wfile.write(b"\x88\x00")
            self.rfile.read(1000)


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """Serve until the test is over."""
    with Api(request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(api: Api, folder: Path) -> tuple[int, str, str]:
    """Run a command in a pod of that API server."""
    config = folder / "config"
    there = {"server": f"http://127.0.0.1:{api.server_address[1]}"}
    words = {"clusters": [{"name": "a", "cluster": there}], "users": [{"name": "a", "user": {}}]}
    words["contexts"] = [{"name": "a", "context": {"cluster": "a", "user": "a"}}]
    config.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **words}))
    return Kube(str(config), "a").run_in_pod("ns", "postgres-0", "postgres", ["true"], "some text")


@pytest.mark.parametrize("api", [0, 1], indirect=True)
def test_command_runs_once_more(api: Api, tmp_path: Path) -> None:
    assert run(api, tmp_path) == (0, "done\n", "")
    assert api.asked == api.losses + 1


@pytest.mark.parametrize("api", [2], indirect=True)
def test_connection_that_is_lost_twice_is_told(api: Api, tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=r"^The connection to pod postgres-0 was lost twice: .* Run this again\.$"):
        run(api, tmp_path)
    assert api.asked == 2
