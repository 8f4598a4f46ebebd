"""What an engine could leave on this machine, beside a cluster of driver none that lives on it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

from engines.packages import CACHE
from engines.space import CGROUP, hierarchies

# Made and deleted by the cluster all the time: its pods' interfaces, and the rules of its Services and pods.
OF_THE_CLUSTER = re.compile(r"^veth|KUBE-|CNI-")

# Engines make them where they are missing.
MADE_BY_ENGINES = ("/lib/modules", "/run/docker", "/run/containers", "/run/libpod", "/etc/docker", "/var/lib/docker")

# Who ends and is started again, was touched.
OF_A_CLUSTER = re.compile(r"\d+ \S*\b(containerd|etcd|kubelet)( |$)")


def look() -> dict[str, list[str]]:
    """The machine's interfaces, firewall rules, cluster and folders, but for what the cluster itself changes."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    rules = [rule for program in ("iptables-save", "ip6tables-save") for rule in _lines(program)]
    return {
        "interfaces": sorted(link["ifname"] for link in links if not OF_THE_CLUSTER.search(link["ifname"])),
        # Chains come with counters.
        "rules": sorted(re.sub(r"\[.*\]", "", rule) for rule in rules if not OF_THE_CLUSTER.search(rule)),
        "namespaces": [line for line in _lines("ip", "netns") if not line.startswith("cni-")],
        "cluster": sorted(set(filter(OF_A_CLUSTER.match, running())) - set(processes())),
        "folders": [path for path in MADE_BY_ENGINES if Path(path).exists()],
    }


def left() -> dict[str, list[str]]:
    """What there is of an engine that ended: processes, mounts and cgroups."""
    return {
        "processes": processes(),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(CACHE) in line],
        "cgroups": [str(root / CGROUP) for root in hierarchies() if (root / CGROUP).exists()],
    }


def processes() -> list[str]:
    """The processes of engines: those in their cgroup, and their network's."""
    return [process for process in running() if CGROUP in cgroups_of(process.split()[0]) or str(CACHE) in process]


def running() -> list[str]:
    """The id and the command line of every process that has one; whoever ended and was not waited for has none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if command := (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip():
                found.append(f"{folder.name} {command}")
    return sorted(found)


def cgroups_of(process: str) -> str:
    """The cgroups of a process, or nothing where it has ended by now."""
    try:
        return Path("/proc", process, "cgroup").read_text()
    except OSError:
        return ""


def _lines(*command: str) -> list[str]:
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if line and not line.startswith("#")]
