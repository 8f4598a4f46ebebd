"""One run at a time for a site, whatever becomes of the run that has it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scenario import NAMESPACE, ROOT, TOOLS, begin, changed, items, kubectl, playbook, wait_for

OTHER = "somebody@elsewhere/1/00000000"
REFUSED = f"Another run has this site: {OTHER}"
NEW = ["-e", json.dumps({"django_environment": {"DJANGO_NOTES_WRITABLE": "true", "ANYTHING": "lease"}})]
LONG = ["-e", json.dumps({"django_before_migrate": [["sleep", "45"]]})]


@pytest.fixture(autouse=True)
def nobody_has_the_site() -> Iterator[None]:
    """No test leaves a lease to the next one."""
    yield
    kubectl("delete", "lease", "deploy", "--ignore-not-found")


def hold(seconds: int, holder: str = OTHER, when: str = "2026-01-01T00:00:00.000000Z") -> None:
    """Give the lease to a run of somebody else, whose clock is far off."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "acquireTime": when, "renewTime": when}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "deploy"}, "spec": spec}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(lease))


def holder() -> str:
    """Who has the site; empty for nobody."""
    return "".join(lease["spec"]["holderIdentity"] for lease in items("leases"))


def pods() -> list[str]:
    """The site's pods, a line each, with their state."""
    return kubectl("get", "pods", "--no-headers").splitlines()


@contextmanager
def renewed() -> Iterator[None]:
    """Let the other run renew its lease, until the end of the block."""
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(1):
            count += 1
            hold(30, when=f"2026-01-01T00:{count // 60:02}:{count % 60:02}.000000Z")

    hold(30)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_8_run_that_renews_is_respected() -> None:
    with renewed():
        run = playbook("playbooks/deploy.yml", *NEW)
        assert run.returncode != 0
        assert REFUSED in run.stdout
        assert "delete lease deploy" in run.stdout
        assert holder() == OTHER


def test_8_lease_that_nobody_renews_is_dead() -> None:
    """Whatever its times say: the other machine's clock may be an hour off."""
    for when in ("2026-01-01T00:00:00.000000Z", "2126-01-01T00:00:00.000000Z"):
        hold(5, when=when)
        assert changed(playbook("playbooks/deploy.yml")) == 0
        wait_for(lambda: holder() == "", 5)


def test_lease_of_an_earlier_version_is_not_waited_for() -> None:
    """It lasted an hour, and nobody renewed it."""
    hold(3600)
    run = playbook("playbooks/deploy.yml")
    assert run.returncode != 0
    assert REFUSED in run.stdout


def test_8_long_run_keeps_its_lease() -> None:
    """A command before the migrations takes longer than the lease lasts."""
    first = begin("playbooks/deploy.yml", *LONG, "-e", "site_lease_seconds=12")
    wait_for(lambda: "before-migrate" in kubectl("get", "pods"), 60)
    owner = holder()
    time.sleep(13)
    run = playbook("playbooks/deploy.yml")
    assert run.returncode != 0
    assert f"Another run has this site: {owner}" in run.stdout
    assert first.wait() == 0, first.stdout.read()
    wait_for(lambda: holder() == "", 5)


def test_8_run_that_lost_its_lease_stops_before_its_next_change() -> None:
    """A laptop that slept, and wakes while another run has the site: that one's lease is left alone."""
    with begin("playbooks/deploy.yml", *NEW) as run:
        for line in run.stdout:
            if "PLAY [Storage]" in line:
                hold(3600)
                break
        said = " ".join(run.stdout.read().split())
    assert run.returncode != 0
    assert f"This run has lost its site: the lease deploy in namespace {NAMESPACE} now belongs to {OTHER}." in said
    assert "stops before its next change" in said
    assert holder() == OTHER
    kubectl("delete", "lease", "deploy")
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_8_run_that_lost_its_lease_ends_where_it_waits() -> None:
    """It changes nothing at that moment, and what it does next may ask for no lease."""
    # Not what an earlier run has run: that would be done.
    other = json.dumps({"django_before_migrate": [["sh", "-c", f"sleep 44 # {time.time()}"]]})
    with begin("playbooks/deploy.yml", "-e", other, "-e", "site_lease_seconds=12") as run:
        wait_for(lambda: any("before-migrate" in line and "Running" in line for line in pods()), 60)
        hold(3600)
        assert run.wait(10) != 0
        said = " ".join(run.stdout.read().split())
    assert f"This run has lost its site: the lease deploy in namespace {NAMESPACE} now belongs to {OTHER}." in said
    assert holder() == OTHER
    kubectl("delete", "lease", "deploy")
    assert playbook("playbooks/deploy.yml").returncode == 0


def test_8_no_rescue_runs_when_the_lease_is_lost(tmp_path: Path) -> None:
    """It would put back what another run has changed since."""
    hold(3600)
    place = {"kubeconfig": os.environ["SITE_KUBECONFIG"], "context": os.environ["SITE_CONTEXT"], "namespace": NAMESPACE}
    remove = {"kubernetes_django.site.remove": place | {"labels": {"a": "b"}, "timeout": 5, "kinds": ["Job"]}}
    after = {"ansible.builtin.file": {"path": str(tmp_path / "rescued"), "state": "touch", "mode": "0600"}}
    block = {"block": [remove], "rescue": [after], "always": [after]}
    mine = {"site_lease": {"namespace": NAMESPACE, "holder": "me"}}
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "sites", "vars": mine, "tasks": [block]}]))
    run = playbook(str(tmp_path / "play.json"))
    assert run.returncode != 0
    assert f"now belongs to {OTHER}" in " ".join(run.stdout.split())
    assert not (tmp_path / "rescued").exists()


def test_no_setting_of_ansible_is_needed(tmp_path: Path) -> None:
    """In another folder, with no ansible.cfg, a run takes the lease and gives it back."""
    ours = {
        "ANSIBLE_CONFIG": str(tmp_path / "none.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
    }
    command = [TOOLS / "ansible-playbook", "-i", os.environ["SITE_INVENTORY"], ROOT / "playbooks" / "deploy.yml"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    settings["ANSIBLE_VAULT_PASSWORD_FILE"] = os.environ["ANSIBLE_VAULT_PASSWORD_FILE"]
    (tmp_path / "none.cfg").touch()
    run = subprocess.run(
        command, cwd=tmp_path, env=settings | ours, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert changed(run) == 0
    wait_for(lambda: holder() == "", 5)
