"""The engines that the tests start: they do what engines do, and leave nothing, however their test ends."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines import runtime, traces
from engines.docker import Docker
from engines.podman import Podman
from engines.space import Space
from engines.user import OUT_OF_REACH

pytestmark = pytest.mark.engine
TESTS = Path(__file__).resolve().parents[1]
# A program of its own folder that waits, without a single library.
DOCKERFILE = 'FROM scratch\nCOPY pause /\nSTOPSIGNAL SIGKILL\nCMD ["/pause"]\n'
PAUSE = "#include <unistd.h>\nint main(void) { return pause(); }\n"
# A test that holds an engine with a container until it is killed.
HOLDS = """
import sys, time
from engines.{module} import {kind}
with {kind}() as engine:
    engine.run("build", "--tag", "localhost/pause", sys.argv[1])
    engine.run("run", "--detach", "--privileged", "--publish", "127.0.0.1:30859:80", "localhost/pause")
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "pause.c").write_text(PAUSE)
    subprocess.run(["gcc", "-static", "-o", folder / "pause", folder / "pause.c"], check=True)
    return folder


@pytest.mark.parametrize("kind", [Docker, Podman])
def test_engine_runs_what_is_privileged_and_leaves_nothing(kind: type[Docker | Podman], context: Path) -> None:
    before = traces.look()
    with kind() as engine:
        engine.run("build", "--tag", "localhost/pause", context)
        # A network and a port, as minikube asks for them.
        engine.run("network", "create", "--subnet", "192.168.58.0/24", "tests")
        flags = ["--detach", "--privileged", "--network", "tests", "--publish", "127.0.0.1:30859:80"]
        engine.run("run", *flags, "--name", "pause", "localhost/pause")
        assert engine.run("ps", "--format", "{{.Names}}").stdout.split() == ["pause"]
        assert "30859" in engine.space.run("iptables-save"), "the engine writes no rules"
        assert traces.look() == before, "the machine sees the engine's network"
        assert traces.left()["processes"]
    assert traces.left() == {"processes": [], "mounts": [], "cgroups": []}
    assert traces.look() == before
    assert not engine.space.folder.exists()


@pytest.mark.parametrize("kind", [Docker, Podman])
def test_killed_test_takes_its_engine_along_and_the_next_one_starts(
    kind: type[Docker | Podman], context: Path, tmp_path: Path
) -> None:
    before = traces.look()
    script = tmp_path / "holds.py"
    script.write_text(HOLDS.format(module=kind.__module__.rpartition(".")[2], kind=kind.__name__))
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen([sys.executable, script, context], env=environment, stdout=subprocess.PIPE) as test:
        assert test.stdout.readline() == b"holds\n"
        assert any("/pause" in process for process in traces.processes())
        with pytest.raises(RuntimeError, match="another test runs an engine of its own"):
            kind().__enter__()
        test.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while traces.processes():
        assert time.monotonic() < deadline, traces.processes()
        time.sleep(0.1)
    assert traces.look() == before
    with kind() as engine:
        assert engine.run("ps", "--all", "--quiet").stdout == ""
    assert traces.left() == {"processes": [], "mounts": [], "cgroups": []}


def test_machine_and_its_cluster_are_out_of_reach(tmp_path: Path) -> None:
    ours = Path("/etc") / f"{tmp_path.name}-{os.getpid()}"
    ours.write_text("the machine's own")
    try:
        with Space() as space:
            assert space.run("sh", "-c", OUT_OF_REACH) == ""
            space.run("sh", "-c", f"rm {ours} && iptables -P INPUT DROP && echo > /etc/another-{ours.name}")
            assert str(os.getpid()) not in space.run("sh", "-c", "ls /proc").split()
        assert ours.read_text() == "the machine's own"
        assert not ours.with_name(f"another-{ours.name}").exists()
        assert (
            "-P INPUT DROP" not in subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
        )
    finally:
        ours.unlink()


CONTAINER = {
    "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"]},
    "oomScoreAdj": -500,
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**40}],
}


def test_runtime_takes_out_what_the_machine_lacks_and_nothing_else() -> None:
    process = copy.deepcopy(CONTAINER)
    runtime.reduce(process, set())
    assert process == CONTAINER
    runtime.reduce(process, {"CAP_SYS_RESOURCE"})
    assert process["capabilities"] == {"bounding": ["CAP_KILL"], "effective": []}
    assert "oomScoreAdj" not in process
    assert process["rlimits"][0]["soft"] == 10
    assert process["rlimits"][0]["hard"] < 2**40
    process = copy.deepcopy(CONTAINER)
    runtime.reduce(process, {"CAP_SYS_BOOT"})
    assert process == CONTAINER
