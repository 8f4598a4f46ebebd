"""One run at a time for a site: a Lease in its namespace names the run that has it."""

from __future__ import annotations

import datetime
import getpass
import os
import socket
import time
from pathlib import Path

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

NAME = "deploy"
# A run that died on another machine frees its lease after this time: longer than any deploy should take.
SECONDS = 3600
# By so much the clock may have been set meanwhile.
CLOCK_SECONDS = 5
# Process id of ansible-playbook, noted there by the callback. Its workers ask too late: one whose parent was killed has
# another parent, which does not end.
run_pid: int | None = None


def acquire(kube: Kube, namespace: str) -> str | None:
    """Take the lease for this run, or say who has it.

    A lease of a run that is no more (its time is over, or it ran here and its process is gone) is taken over.

    Args:
        kube: the connection.
        namespace: the site's namespace, which must exist.

    Returns:
        None where it was taken, else a sentence about the run that has it.
    """
    holder = f"{getpass.getuser()}@{socket.gethostname()}/{run_pid or os.getppid()}"
    old = kube.get("Lease", NAME, namespace)
    if old is not None:
        owner = old["spec"].get("holderIdentity") or ""
        if owner and owner != holder and is_alive(owner, old["spec"]):
            return (
                f"Another run has this site: {owner}, since {old['spec']['acquireTime'][:19]}Z. Wait for its end; "
                f"if it is no more: kubectl --context {kube.context} -n {namespace} delete lease {NAME}"
            )
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    # With the version that was read: of two runs that take it in the same moment, one is refused.
    version = {"resourceVersion": old["metadata"]["resourceVersion"]} if old else {}
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace} | version,
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": SECONDS, "acquireTime": now, "renewTime": now},
    }
    try:
        if old:
            kube.request("PUT", kube.path("Lease", namespace, NAME), body=body)
        else:
            kube.request("POST", kube.path("Lease", namespace), body=body)
    except KubeError as error:
        if error.status == 409:
            return "Another run took this site in this very moment. Wait for its end, then run again."
        raise
    return None


def is_alive(holder: str, spec: dict) -> bool:
    """Whether the run that has the lease may still be going on."""
    taken = datetime.datetime.fromisoformat(spec["acquireTime"].replace("Z", "+00:00"))
    if (datetime.datetime.now(datetime.UTC) - taken).total_seconds() > spec["leaseDurationSeconds"]:
        return False
    where, _, pid = holder.rpartition("/")
    if where.rpartition("@")[2] != socket.gethostname() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A process id is given again, after a restart of the machine soon: who began after the lease is somebody else.
    return began(int(pid)) <= taken.timestamp() + CLOCK_SECONDS


def began(pid: int) -> float:
    """When a process of this machine began, in seconds since the epoch; 0 where the system does not say."""
    try:
        # Behind the name, which may hold anything, in clock ticks since the machine started: proc(5).
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def release(kube: Kube, namespace: str) -> None:
    """Give the lease back; a namespace or lease that is gone meanwhile is as good."""
    kube.request("DELETE", kube.path("Lease", namespace, NAME))
