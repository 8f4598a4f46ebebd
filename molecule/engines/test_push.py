"""docker and podman, each a real one, push what they build to a registry with TLS by a CA of its own and a login."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import distribution
import programs
import pytest
from engines.docker import Docker
from engines.podman import Podman
from scenario import changed, playbook

# In the engine's place alone; of 127.0.0.1 docker believes anything.
HOST, PORT = "192.0.2.77", 15443
ADDRESS = f"{HOST}:{PORT}"


@pytest.fixture(params=[Docker, Podman], ids=["docker", "podman"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Docker | Podman]:
    """An engine with a registry beside it, found as a user's is found."""
    with request.param() as engine:
        engine.space.run("ip", "address", "add", f"{HOST}/32", "dev", "lo")
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        (tmp_path / "auth.json").write_text("{}")
        if isinstance(engine, Docker):
            # The program asks a registry itself as well, and so has to be where the engine is.
            there = tmp_path / "bin" / "docker"
            there.parent.mkdir()
            place = engine.environment["PATH"].partition(":")[0]
            there.write_text(f'#!/bin/sh\nexec {engine.space.folder / "enter"} {place}/docker "$@"\n')
            there.chmod(0o755)
            monkeypatch.setenv("PATH", f"{there.parent}:{os.environ['PATH']}")
        registry = tmp_path / "registry"
        registry.mkdir()
        distribution.configure(registry, ADDRESS)
        # Of its own: the machine's remembers what was pushed.
        programs.share_packages(tmp_path / "cache")
        with distribution.serving(registry, tuple(engine.space.inside())) as process:
            with engine.space.joined():
                programs.wait_for_port(HOST, PORT, process, registry / "registry.log")
            yield engine


def test_images_are_pushed(engine: Docker | Podman, tmp_path: Path) -> None:
    kind = type(engine).__name__.lower()
    where = {
        "image_builder": kind,
        "image_source": "debian",
        "image_name": "engines",
        "image_cache": str(tmp_path / "cache"),
    }
    arguments = ["-e", json.dumps(where | {"image_registry": f"{ADDRESS}/team"})]

    def refused(sentence: str) -> None:
        run = playbook("playbooks/image.yml", *arguments)
        assert run.returncode != 0
        assert sentence in " ".join(run.stdout.split()), run.stdout

    refused(f"{kind} does not trust the certificate of {ADDRESS}. Put its CA's certificate, PEM, into /etc/")
    trusted = f"/etc/{'docker' if kind == 'docker' else 'containers'}/certs.d/{ADDRESS}"
    engine.space.run("mkdir", "-p", trusted)
    engine.space.run("cp", tmp_path / "registry" / "tls.crt", f"{trusted}/ca.crt")
    refused(f"{ADDRESS} wants a login, or another one, and `{kind} login {ADDRESS}` gives it one")
    login = [kind, "login", "--username", distribution.USER, "--password-stdin", ADDRESS]
    subprocess.run(login, input=distribution.PASSWORD, check=True, capture_output=True, text=True)
    assert changed(playbook("playbooks/image.yml", *arguments)) > 0
    pushed = tmp_path / "registry" / "data" / "docker" / "registry" / "v2" / "repositories" / "team"
    assert {path.name for path in pushed.iterdir()} == {"engines", "engines-nginx", "engines-postgres"}
    assert changed(playbook("playbooks/image.yml", *arguments)) == 0
