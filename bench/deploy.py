#!/usr/bin/env python3
"""Prints how long a deploy takes and what cluster and site cost in memory, on the minikube that runs.

    .venv/bin/python bench/deploy.py

Works on the tests' site (molecule/inventory), which it makes and takes away again, so that a site of `make deploy` is
left alone. Figures of one run on one machine: compare them side by side, not with another day's.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
INVENTORY = ROOT / "molecule" / "inventory"
# Of the scenario default, see molecule.yml in the inventory. No pod gets ready before every migration is applied.
PAGE = "http://127.0.0.1:30801/"
PAGE_SECONDS = 120
SECOND_RUNS = 5
CLUSTER_PROGRAMS = ("containerd", "containerd-shim", "kubelet", "kube-", "etcd", "coredns", "pause")


def play(playbook: str, *arguments: str) -> tuple[float, str]:
    """Run a playbook on the tests' site.

    Returns:
        seconds, and what it printed.

    Raises:
        SystemExit: it failed; its output is shown.
    """
    environment = os.environ | {
        "ANSIBLE_VAULT_PASSWORD_FILE": str(INVENTORY / "vault-password"),
        "ANSIBLE_DISPLAY_OK_HOSTS": "true",
    }
    began = time.monotonic()
    run = subprocess.run(
        [TOOLS / "ansible-playbook", "-i", INVENTORY / "hosts.yml", playbook, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode:
        raise SystemExit(run.stdout + run.stderr)
    return time.monotonic() - began, run.stdout


def seconds_to_page() -> float:
    """Seconds from now until the page is answered with 200.

    Raises:
        TimeoutError: not within PAGE_SECONDS.
    """
    began = time.monotonic()
    while time.monotonic() < began + PAGE_SECONDS:
        with contextlib.suppress(OSError), urllib.request.urlopen(PAGE, timeout=1) as answer:
            if answer.status == 200:
                return time.monotonic() - began
        time.sleep(0.05)
    raise TimeoutError(f"{PAGE} did not answer with 200 within {PAGE_SECONDS} s")


def changed(output: str) -> int:
    """How many tasks changed something."""
    found = re.search(r"changed=(\d+)", output)
    return int(found[1]) if found else -1


def api_tasks(output: str) -> list[str]:
    """The tasks that called the API, from an output that shows every task that was not skipped."""
    wanted = (
        "preflight | ",
        "apply | Compare",
        "change | Apply",
        "wait | Wait",
        "migrate | Delete",
        "directory_done | ",
        "Free the volume",
    )
    return [name for name in re.findall(r"TASK \[(.*?)\] \*", output) if any(part in name for part in wanted)]


def memory() -> tuple[int, int]:
    """Proportional memory, in MiB, of the cluster's own programs and of what runs in pods beside them."""
    cluster = site = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "comm").read_text().strip()
            cgroup = (process / "cgroup").read_text()
            rollup = (process / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
        size = int(found[1]) if found else 0
        if command.startswith(CLUSTER_PROGRAMS):
            cluster += size
        elif "kubepods" in cgroup:
            site += size
    return cluster // 1024, site // 1024


def again(playbook: str) -> str:
    """Run a playbook several times where nothing is to do, print its times, and return the last run's output."""
    runs = [play(playbook) for _ in range(SECOND_RUNS)]
    times = sorted(seconds for seconds, _ in runs)
    print(
        f"{playbook} again, {SECOND_RUNS} runs: {times[0]:.1f} to {times[-1]:.1f} s, "
        f"median {times[len(times) // 2]:.1f} s, {max(changed(output) for _, output in runs)} changed"
    )
    return runs[-1][1]


def main() -> None:
    play("playbooks/vault.yml")
    play("playbooks/reset.yml", "-e", "reset_data=true")
    with ThreadPoolExecutor() as beside:
        answered = beside.submit(seconds_to_page)
        seconds, output = play("playbooks/deploy.yml")
    print(f"empty namespace, images present, to HTTP 200 with all migrations applied: {answered.result():.1f} s")
    print(f"  and the play's end: {seconds:.1f} s. {output.strip().splitlines()[-1]}")
    output = again("playbooks/deploy.yml")
    print(f"  tasks that call the API: {', '.join(api_tasks(output))}")
    again("site.yml")
    cluster, pods = memory()
    print(f"memory (proportional): cluster {cluster} MiB, pods {pods} MiB, together {cluster + pods} MiB")
    play("playbooks/reset.yml", "-e", "reset_data=true")


if __name__ == "__main__":
    main()
