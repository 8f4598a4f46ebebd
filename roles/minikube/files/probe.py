#!/usr/bin/env python3
"""Prints what this machine offers, as JSON. Changes nothing, and waits ten seconds at most for each engine.

Usage: probe.py MINIKUBE_HOME DIRECTORY [WHAT:PACKAGE...]

  MINIKUBE_HOME: where minikube keeps its files, its settings among them.
  DIRECTORY: where the built programs will lie; its free space is reported.
  WHAT: a program, or a path with wildcards; its package is reported as missing when it is not there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bounded import answer

ENGINE_SECONDS = 10
MIB = 1024 * 1024


def rootless_wanted(minikube_home: Path) -> bool:
    """Whether the user has told minikube to run engines without root: by MINIKUBE_ROOTLESS, else in its settings."""
    wanted: Any = os.environ.get("MINIKUBE_ROOTLESS")
    if not wanted:
        try:
            wanted = json.loads((minikube_home / "config" / "config.json").read_text(encoding="utf-8"))["rootless"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return str(wanted).lower() in ("1", "t", "true")


def look_at(name: str, question: list[str], wanted: bool) -> dict[str, Any]:
    """What an engine says of itself, asked as minikube asks it.

    Args:
        name: docker or podman.
        question: the command that prints what the engine is, as JSON.
        wanted: whether it has to run without root.

    Returns:
        installed; answers, whether minikube would take it; refusal, why it would not; and of one that answers cpus,
        memory_mb, rootless and cgroup2.
    """
    if not shutil.which(name):
        return {"installed": False, "answers": False, "refusal": ""}
    code, out, err = answer(question, ENGINE_SECONDS)
    try:
        info = json.loads(out) if code == 0 else {}
    except ValueError:
        info = {}
    # Some versions of docker answer with success, and with the error inside.
    refusal = " ".join(info.get("ServerErrors") or []) or (err.strip().splitlines() or ["it said nothing"])[-1]
    if code != 0 or not info or info.get("ServerErrors"):
        return {"installed": True, "answers": False, "refusal": refusal}
    host = info.get("host") or {}
    found = {
        "installed": True,
        "answers": True,
        "refusal": "",
        "cpus": host.get("cpus") or info.get("NCPU"),
        "memory_mb": (host.get("memTotal") or info.get("MemTotal") or 0) // MIB,
        "rootless": bool((host.get("security") or {}).get("rootless"))
        or any(option.startswith("name=rootless") for option in info.get("SecurityOptions") or []),
        "cgroup2": str(host.get("cgroupVersion") or info.get("CgroupVersion")) in ("2", "v2"),
    }
    if wanted and not found["rootless"]:
        found |= {
            "answers": False,
            "refusal": "it runs as root, and minikube is told to use no root (setting rootless)",
        }
    return found


def engines(system: str, wanted: bool) -> dict[str, dict[str, Any]]:
    """Both engines. minikube runs podman by sudo on Linux, without the password that sudo may remember."""
    sudo = ["sudo", "-n", "-k"] if system == "Linux" and not wanted else []
    return {
        "docker": look_at("docker", ["docker", "system", "info", "--format", "{{json .}}"], wanted),
        "podman": look_at("podman", [*sudo, "podman", "system", "info", "--format", "json"], wanted),
    }


def machine(system: str, directory: Path) -> dict[str, Any]:
    """What the driver none builds and runs on: Linux alone has all of it."""
    while not directory.is_dir():
        directory = directory.parent
    memory = [line.split()[1] for line in read("/proc/meminfo").splitlines() if line.startswith("MemAvailable:")]
    _, go, _ = answer(["go", "env", "GOVERSION"], ENGINE_SECONDS)
    return {
        "apt": bool(shutil.which("apt-get")),
        "go": go.strip().removeprefix("go"),
        "pip": find_spec("pip") is not None,
        "systemd": Path("/run/systemd/system").is_dir(),
        "cgroup2": Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "oom_score_adj": system == "Linux" and may_lower_score(),
        "memory_mb": int(memory[0]) // 1024 if memory else 0,
        "disk_mb": shutil.disk_usage(directory).free // MIB,
    }


def may_lower_score() -> bool:
    """Whether a process's oom_score_adj may go to -998, where containerd sets its sandboxes': by CAP_SYS_RESOURCE."""
    return answer(["sh", "-c", "echo -998 > /proc/self/oom_score_adj"], ENGINE_SECONDS)[0] == 0


def read(path: str) -> str:
    """A file of the kernel's, or nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def missing(pairs: list[str]) -> list[str]:
    """The packages of what is not there."""
    wanted = [pair.split(":", 1) for pair in pairs]
    return [package for what, package in wanted if not (any_file(what) if "/" in what else shutil.which(what))]


def any_file(pattern: str) -> bool:
    """Whether there is a file of an absolute path that may have wildcards."""
    return any(Path("/").glob(pattern.lstrip("/")))


def main(minikube_home: str, directory: str, *pairs: str) -> None:
    """Print it all."""
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    # A toolchain of go.mod's own choice would be fetched only to be asked for its version.
    os.environ["GOTOOLCHAIN"] = "local"
    _, uname, _ = answer(["uname", "-s", "-m"], ENGINE_SECONDS)
    system, hardware = uname.split()
    found = {
        "system": system,
        "arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(hardware, hardware),
        "root": os.getuid() == 0,
        "minikube": bool(shutil.which("minikube")),
        "kubectl": bool(shutil.which("kubectl")),
        "missing": missing(list(pairs)),
    }
    print(json.dumps(found | engines(system, rootless_wanted(Path(minikube_home))) | machine(system, Path(directory))))


if __name__ == "__main__":
    main(*sys.argv[1:])
