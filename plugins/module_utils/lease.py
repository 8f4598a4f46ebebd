# GNU General Public License v3.0+ (see LICENSE)
"""One run at a time for a site: a Lease in its namespace names the run that has it, and a process renews it.

As Kubernetes' own leader election has it: a lease that is not renewed for its duration is dead. Both sides measure that
by clocks that nobody sets, so wrong ones harm nobody. The renewing process ends with the run, however that ends, and
gives the lease back; of a machine that is lost, the lease is free after its duration. A run whose lease another one has
taken, as that of a laptop that slept, is ended by its renewing process, whatever it does at that moment.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import multiprocessing
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

NAME = "deploy"
# The longest duration that is waited for; versions before took the lease for an hour, and never renewed it.
LONGEST_SECONDS = 300
# A lease is renewed this often within its duration.
RENEWALS = 6
LOOK_SECONDS = 0.3
# A clock that goes on while a laptop sleeps, and that nobody sets: on macOS the monotonic one does so.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LostLeaseError(KubeError):
    """The site is another run's by now."""


def acquire(kube: Kube, place: dict[str, str], mine: str, seconds: int) -> tuple[str, str]:
    """Take the lease for this run, and let a process renew it until the run ends.

    Args:
        kube: the connection.
        place: kubeconfig, context and namespace, which must exist.
        mine: who this run is, where it has taken the lease before; else empty.
        seconds: the lease's duration.

    Returns:
        who this run is, empty where another one has the site; and then a sentence about that.

    Raises:
        KubeError: the API server refused, or gave no answer.
    """
    seen, since = None, time.monotonic()
    while True:
        old = kube.get("Lease", NAME, place["namespace"])
        owner = holder_of(old)
        if mine and owner == mine:
            return mine, ""
        if owner:
            version, lasts = old["metadata"]["resourceVersion"], old["spec"].get("leaseDurationSeconds") or seconds
            seen = seen or version
            if version != seen or lasts > LONGEST_SECONDS:
                return "", explain(kube, place["namespace"], old)
            if time.monotonic() - since < lasts:
                time.sleep(LOOK_SECONDS)
                continue
        who = f"{getpass.getuser()}@{socket.gethostname()}/{run_process()}/{secrets.token_hex(4)}"
        if take(kube, place["namespace"], old, who, seconds):
            keep(place, who, seconds)
            return who, ""
        # Another run was faster: its lease is looked at from now on.
        seen, since = None, time.monotonic()


def run_process() -> int:
    """The id of ansible-playbook's process, which has started the worker that runs this task.

    Not that of the worker's parent: where the run was killed, that is process 1, which would keep the lease for ever.
    """
    run = multiprocessing.parent_process()
    return run.pid if run else os.getppid()


def holder_of(lease: dict | None) -> str:
    """Who has a lease; empty for nobody."""
    return (lease or {}).get("spec", {}).get("holderIdentity") or ""


def explain(kube: Kube, namespace: str, lease: dict) -> str:
    """What to say of another run that has the site."""
    since = lease["spec"].get("acquireTime", "")[:19]
    return (
        f"Another run has this site: {holder_of(lease)}, since {since}Z. Wait for its end; if it is no more: "
        f"kubectl --context {kube.context} -n {namespace} delete lease {NAME}"
    )


def now() -> str:
    """The time, as Leases have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def take(kube: Kube, namespace: str, old: dict | None, who: str, seconds: int) -> bool:
    """Write the lease; return whether it was this run's to write. Of two runs that do so at once, one is refused.

    Args:
        kube: the connection.
        namespace: the site's.
        old: the lease that was read, None where there was none.
        who: the new holder.
        seconds: the lease's duration.
    """
    version = {"resourceVersion": old["metadata"]["resourceVersion"]} if old else {}
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace} | version,
        "spec": {"holderIdentity": who, "leaseDurationSeconds": seconds, "acquireTime": now(), "renewTime": now()},
    }
    if old:
        return accepted(kube, "PUT", kube.path("Lease", namespace, NAME), body)
    return accepted(kube, "POST", kube.path("Lease", namespace), body)


def accepted(kube: Kube, method: str, path: str, body: dict[str, Any]) -> bool:
    """Send a request; return whether the object was still the one that was read.

    Raises:
        KubeError: another refusal, or no answer.
    """
    try:
        kube.request(method, path, body=body)
    except KubeError as error:
        if error.status == 409:
            return False
        raise
    return True


def keep(place: dict[str, str], who: str, seconds: int) -> None:
    """Start the process that renews the lease until this run ends: see `renew_until_end`."""
    # A process, not a plugin: a callback would need a setting in ansible.cfg, which other folders and AWX do not have.
    told = json.dumps({"place": place, "who": who, "seconds": seconds, "pid": run_process()})
    process = subprocess.Popen(  # noqa: S603 (this file itself)
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[5])},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    process.stdin.write(told)
    process.stdin.close()


def renew_until_end(place: dict[str, str], who: str, seconds: int, pid: int) -> None:
    """Renew the lease while a process lives, then give it back. End the process where the lease is another one's.

    Where the lease was deleted, as with its namespace, nobody else has the site: the process goes on.

    Args:
        place: kubeconfig, context and namespace.
        who: who has the lease.
        seconds: its duration.
        pid: of the run's ansible-playbook.
    """
    kube, run = Kube(place["kubeconfig"], place["context"]), Process(pid)
    renewed = time.clock_gettime(CLOCK)
    while not run.ended(LOOK_SECONDS):
        if time.clock_gettime(CLOCK) - renewed < seconds / RENEWALS:
            continue
        with contextlib.suppress(KubeError):  # an API server that restarts: the next look tries again
            lease = kube.get("Lease", NAME, place["namespace"])
            if holder_of(lease) not in (who, ""):
                run.end(lost(lease, place["namespace"]))
                return
            if not lease:
                continue
            lease["spec"]["renewTime"] = now()
            if accepted(kube, "PUT", kube.path("Lease", place["namespace"], NAME), lease):
                renewed = time.clock_gettime(CLOCK)
    release(kube, place["namespace"], who)


def release(kube: Kube, namespace: str, who: str) -> None:
    """Give the lease back, where it still is this run's.

    Raises:
        KubeError: no answer; the lease then ends by itself.
    """
    lease = kube.get("Lease", NAME, namespace)
    if holder_of(lease) == who:
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        accepted(kube, "DELETE", kube.path("Lease", namespace, NAME), {"preconditions": version})


def require(kube: Kube, taken: dict[str, str] | None) -> None:
    """Stop a run that has lost its lease, before it writes.

    Args:
        kube: the connection.
        taken: namespace and holder of the lease that this run took, None where it took none.

    Raises:
        LostLeaseError: the lease is another run's, or gone.
        KubeError: no answer.
    """
    if not taken:
        return
    lease = kube.get("Lease", NAME, taken["namespace"])
    if holder_of(lease) != taken["holder"]:
        raise LostLeaseError(lost(lease, taken["namespace"]))


def lost(lease: dict | None, namespace: str) -> str:
    """What to say to a run whose lease this is no more."""
    whose = f"now belongs to {holder_of(lease)}" if lease else "was deleted"
    return (
        f"This run has lost its site: the lease {NAME} in namespace {namespace} {whose}. It stops before its next "
        "change. Wait until nobody has the site, then run again."
    )


def report(error: Exception) -> dict[str, Any]:
    """What a task returns that failed so. Of a lost lease no rescue may make something: it would write as well."""
    return {"unreachable" if isinstance(error, LostLeaseError) else "failed": True, "msg": str(error)}


class Process:
    """A process that is not a child of this one.

    Args:
        pid: its id.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._file, self._poll = pid, None, None
        if hasattr(os, "pidfd_open"):
            self._poll = select.poll()
            try:
                self._file = os.pidfd_open(pid)
                self._poll.register(self._file, select.POLLIN)
            except ProcessLookupError:
                self._pid = 0

    def ended(self, seconds: float) -> bool:
        """Wait at most so many seconds for its end; return whether it has ended."""
        if not self._pid:
            return True
        if self._poll:
            return bool(self._poll.poll(seconds * 1000))
        # macOS
        time.sleep(seconds)
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        return False

    def end(self, why: str) -> None:
        """End it, and let it say `why` where its own output can be reached, which macOS does not allow."""
        with contextlib.suppress(OSError), open(f"/proc/{self._pid}/fd/2", "a", encoding="utf-8") as output:  # noqa: PTH123
            output.write(f"\n{why}\n")
        with contextlib.suppress(ProcessLookupError):
            if self._file:
                signal.pidfd_send_signal(self._file, signal.SIGTERM)
            else:
                os.kill(self._pid, signal.SIGTERM)


if __name__ == "__main__":
    renew_until_end(**json.load(sys.stdin))
