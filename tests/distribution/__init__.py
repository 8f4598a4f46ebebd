"""A real registry for tests: distribution, from its Go module, with TLS by a CA of its own and a login."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs

ADDRESS = "127.0.0.1:15443"
USER, PASSWORD = "robot", "the password of a robot"
# Of PASSWORD; the registry takes bcrypt alone.
HASH = "$2b$05$KhVbz3uF5mQ0s7cJ1tYxWeWNMzf9x/buZcxGsEsg7F/6aJEN76ccK"


def configure(folder: Path, address: str = ADDRESS) -> None:
    """Write configuration, logins and certificates into a folder; tls.crt is the CA's.

    Args:
        folder: for all of it, and for the images.
        address: where it is to serve.
    """
    programs.self_signed(folder)
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2"]
    make += ["-subj", "/CN=registry", "-CA", folder / "tls.crt", "-CAkey", folder / "tls.key"]
    make += [
        "-addext",
        f"subjectAltName=IP:{address.partition(':')[0]}",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    make += ["-keyout", folder / "server.key", "-out", folder / "server.crt"]
    subprocess.run(make, check=True, capture_output=True)
    (folder / "htpasswd").write_text(f"{USER}:{HASH}\n")
    tls = {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")}
    configuration = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address, "tls": tls},
        "auth": {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.json").write_text(json.dumps(configuration))  # JSON is YAML


@contextmanager
def serving(folder: Path, enter: tuple[str | Path, ...] = ()) -> Iterator[subprocess.Popen]:
    """Serve what `configure` wrote until the end of the block, or of a test that is killed. The log is registry.log.

    Args:
        folder: what was configured.
        enter: the command that leads to the place where it serves, if that is not this machine's own.
    """
    program = programs.build(Path(__file__).parent, "github.com/distribution/distribution/v3/cmd/registry")
    command = ["setpriv", "--pdeathsig", "KILL", program, "serve", folder / "config.json"]
    # It takes variables called REGISTRY_… for its own configuration, and buildah's are called so too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    environment["OTEL_TRACES_EXPORTER"] = "none"
    with (folder / "registry.log").open("w") as output:
        process = subprocess.Popen([*enter, *command], stdout=output, stderr=output, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
