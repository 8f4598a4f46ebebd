"""The process that renews a lease: by a clock that nobody sets, and it ends a run whose site another one has."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils import lease

ROOT = Path(__file__).resolve().parent.parent
PLACE = {"kubeconfig": "", "context": "", "namespace": "shop"}
ME, OTHER = "me@here", "other@there"


class Kube:
    """A cluster with this one lease, or with none."""

    lease: dict[str, Any] | None = None
    renewals = 0

    def __init__(self, *_: str) -> None: ...

    def get(self, *_: str) -> dict[str, Any] | None:
        return Kube.lease

    def path(self, *_: str) -> str:
        return ""

    def request(self, method: str, *_: str, **__: Any) -> None:
        Kube.renewals += method == "PUT"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    """A run that has a lease of a second, and the process that renews it."""
    monkeypatch.setattr(lease, "Kube", Kube)
    Kube.lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": ME}}
    Kube.renewals = 0
    with (tmp_path / "output").open("w") as output, subprocess.Popen(["sleep", "60"], stderr=output) as process:
        renewer = threading.Thread(target=lease.renew_until_end, args=(PLACE, ME, 1, process.pid))
        renewer.start()
        yield process
        process.kill()
        renewer.join()


def test_8_clock_that_is_set_back_ends_no_renewal(run: subprocess.Popen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    time.sleep(2)
    assert Kube.renewals >= 3
    assert run.poll() is None


def test_8_run_is_ended_when_another_one_has_its_lease(run: subprocess.Popen, tmp_path: Path) -> None:
    """Whatever it does: a module of another collection, which asks for no lease, or a wait of an hour."""
    Kube.lease = {"metadata": {"resourceVersion": "2"}, "spec": {"holderIdentity": OTHER}}
    assert run.wait(5) == -15
    said = (tmp_path / "output").read_text()
    assert f"This run has lost its site: the lease deploy in namespace shop now belongs to {OTHER}." in said


def test_lease_that_went_with_its_namespace_ends_no_run(run: subprocess.Popen) -> None:
    Kube.lease = None
    time.sleep(1.5)
    assert run.poll() is None


# A run that is killed while its worker takes the lease: the worker looks at its run when that is no more.
KILLED = """
import multiprocessing, os, signal, time
from ansible_collections.kubernetes_django.site.plugins.module_utils import lease

def worker(run):
    while os.getppid() == run:
        time.sleep(0.01)
    print(run, lease.run_process(), lease.Process(lease.run_process()).ended(0.1), flush=True)

multiprocessing.get_context("fork").Process(target=worker, args=(os.getpid(),)).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_8_lease_that_a_killed_run_takes_is_given_back() -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={"PYTHONPATH": str(ROOT / "collections")},
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
    )
    own, found, ended = run.stdout.split()
    assert found == own
    assert ended == "True"
