"""A disturbance of the site under traffic, and what it cost."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import scenario
from scenario import URL, items, kubectl, pods_as_they_are, sql
from traffic import Reader, Writer

HEAD = (
    "| what was done | acknowledged rows lost | longest write gap | writes failed | pages failed "
    "| pods replaced | containers restarted | healthy after |\n"
    "|---|---|---|---|---|---|---|---|"
)
# A line of the table for each disturbance, in the order they were made.
TABLE: list[str] = []


@dataclass
class Cost:
    """What a disturbance cost; complete when its `with` block has ended.

    Attributes:
        lost: acknowledged rows that the database does not have.
        write_gap: longest time in seconds between two acknowledged rows.
        writer: the POSTs, and what became of each.
        reader: the same of the page.
        replaced: pods that are others than before.
        restarts: containers that were started again in the same pod.
        healthy_after: seconds from the block's begin until the site was well, and stayed so.
        ended: when the cause was gone again, where it lasted: what time.monotonic() says.
        notes: what else a test wants to see in the table.
    """

    writer: Writer
    reader: Reader
    lost: list[str] = field(default_factory=list)
    write_gap: float = 0.0
    replaced: int = 0
    restarts: int = 0
    healthy_after: float = 0.0
    ended: float | None = None
    notes: list[str] = field(default_factory=list)

    def failed(self) -> dict[str, int]:
        """Each way in which a request failed, and how often."""
        outcomes = [str(request.outcome) for request in self.writer.failures + self.reader.failures]
        return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


@contextmanager
def disturbed(name: str, patience: float = 120, rate: float = 20) -> Iterator[Cost]:
    """Rows are written and pages read while the block runs, until the site is well again, and a little longer.

    Args:
        name: what is done in the block, for the table.
        patience: seconds after the block in which the site has to become well by itself.
        rate: pages read a second.
    """
    wait_until_well(patience)
    before = pods_as_they_are()
    with Writer(URL) as writer, Reader(URL, rate=rate, threads=max(2, round(rate / 20))) as reader:
        cost = Cost(writer, reader)
        time.sleep(1)
        began = time.monotonic()
        yield cost
        well = wait_until_well(patience)
        cost.healthy_after = well - began
        if cost.ended is not None:
            cost.notes.append(f"well {max(0.0, well - cost.ended):.1f} s after its end")
    after = pods_as_they_are()
    cost.lost = writer.lost(rows())
    cost.write_gap = writer.longest_gap()
    cost.replaced = len(after.keys() - before.keys())
    cost.restarts = sum(after[pod] - before[pod] for pod in after.keys() & before.keys())
    notes = f" ({'; '.join(cost.notes)})" if cost.notes else ""
    TABLE.append(
        f"| {name}{notes} | {len(cost.lost)} of {len(writer.acknowledged)} | {cost.write_gap:.1f} s "
        f"| {len(writer.failures)} | {len(reader.failures)} of {len(reader.requests)} "
        f"| {cost.replaced} | {cost.restarts} | {cost.healthy_after:.1f} s |"
    )
    print(TABLE[-1], cost.failed())
    assert writer.acknowledged, "nothing was written"
    assert cost.lost == []


def wait_until_well(patience: float, lasting: float = 4.0) -> float:
    """Wait until the site is well and stays so; return when that began, as time.monotonic() tells it.

    Raises:
        AssertionError: it is not well in time; says what is wrong.
    """
    start = time.monotonic()
    began = None
    while began is None or time.monotonic() - began < lasting:
        wrong = what_is_wrong()
        if wrong:
            began = None
            print(f"{time.monotonic() - start:5.1f} s: {wrong}")
            assert time.monotonic() < start + patience, wrong
        elif began is None:
            began = time.monotonic()
        time.sleep(0.2)
    return began


def what_is_wrong() -> str:
    """Why the site is not well, or nothing: a workload that is not complete, or an answer that does not please."""
    try:
        workloads = items("statefulsets,deployments", "--request-timeout=5s")
        status, body = Reader(URL).send("GET", "/api/status")
        report = json.loads(body)["status"]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return f"{type(error).__name__}: {error}"
    for workload in workloads:
        state, wanted = workload["status"], workload["spec"]["replicas"]
        counts = (state.get("replicas", 0), state.get("readyReplicas", 0), state.get("updatedReplicas", 0))
        if set(counts) != {wanted} or state.get("observedGeneration") != workload["metadata"]["generation"]:
            return f"{workload['kind']} {workload['metadata']['name']} has {counts[1]} of {wanted} pods ready"
    return "" if (status, report) == (200, "operational") else f"the site answers {status}, {report}"


def connections() -> int:
    """How many the server believes to have with the site."""
    return int(sql("select count(*) from pg_stat_activity where usename = 'kube_boss'"))


def rows() -> set[str]:
    """The texts that the database has."""
    return set(sql("select text from notes_note").splitlines())


def web_pods() -> list[str]:
    """Names of the web pods that are not on their way out: one that the test before deleted may still be."""
    return [pod["metadata"]["name"] for pod in scenario.web_pods()]


def node_name() -> str:
    """The name of the only node."""
    return json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]


@cache
def way_to_the_node() -> list[str]:
    """What comes before a command for the node: nothing with minikube's driver none. Kept: API servers go away here."""
    node = node_name()
    return [] if node == socket.gethostname() else ["minikube", "ssh", "--profile", node, "--"]


def on_node(*command: str) -> str:
    """Run a command on the node, as root: this machine itself with minikube's driver none, or its container."""
    way = way_to_the_node()
    # ssh hands one line to a shell.
    whole = [*way, shlex.join(["sudo", *command])] if way else command
    return subprocess.run(whole, check=True, capture_output=True, text=True).stdout


@contextmanager
def undone_by(command: str, within: float) -> Iterator[None]:
    """At the end of the block a shell command puts the node back, whatever became of the block.

    Args:
        command: may be run twice. The node is told of it before anything is broken, and runs it by itself where nobody
            is left to do so: this process may be killed, and minikube may not answer.
        within: seconds after which the node does that, longer than the block takes.
    """
    flag = on_node("mktemp").strip()
    by_itself = f"sleep {within}; [ ! -e {flag} ] || {{ {command}; }}; rm -f {flag}"
    on_node("sh", "-c", f"setsid sh -c {shlex.quote(by_itself)} > /dev/null 2>&1 < /dev/null &")
    try:
        yield
    finally:
        on_node("sh", "-c", command)
        on_node("rm", "-f", flag)


def by_the_node(arguments: str) -> str:
    """A shell command for the node that runs kubectl there."""
    return f"/var/lib/minikube/binaries/*/kubectl --kubeconfig=/etc/kubernetes/admin.conf {arguments}"


def first_process(pod: str) -> int:
    """The pid, on the node, of a pod's first process: nothing inside the pod can kill that one."""
    status = json.loads(kubectl("get", "pod", pod, "-o", "json"))["status"]
    container = status["containerStatuses"][0]["containerID"].rpartition("/")[2]
    return json.loads(on_node("crictl", "inspect", container))["info"]["pid"]


def outcomes(cost: Cost, first: float, last: float) -> set[int | str]:
    """What became of the requests that began between two moments of time.monotonic()."""
    return {r.outcome for r in cost.reader.requests + cost.writer.requests if first < r.began < last}
