"""A place on this machine for an engine: network, mounts, processes and cgroups of its own, which end with the test.

A cluster of driver none lives on the same machine. Here an engine may write all the firewall rules, make all the
bridges and mount all that it does on a user's machine, and its user may destroy a cluster: the machine's own sees none
of it, for its processes, its network and its files are out of reach. Nothing has to be undone: what is in the place
ends with its first process, and that one ends with the test, however the test ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engines.packages import CACHE, NETWORK, Packages

# The cgroup of everything in the place, in each of the machine's trees of them: version 1 has one a controller.
CGROUP = "kubernetes-django-tests"
# Where the place's own processes are: with version 2 none may be in a cgroup that hands controllers on to others.
PROCESSES = f"{CGROUP}/init"
# The machine as slirp4netns shows it from inside: what listens on the machine's 127.0.0.1 answers there.
MACHINE, DNS = "10.0.2.2", "10.0.2.3"
# Folders of the machine that the place sees, and whose changes it keeps for itself.
LAYERED = ("/etc", "/opt", "/usr", "/var")
# Of these it sees nothing: a cluster of driver none and its record, which says to whoever destroys what to take away.
HIDDEN = ("/run", "/data", "/etc/cni", "/etc/containerd", "/etc/kubernetes", "/var/lib/cni", "/var/lib/containerd")
HIDDEN += ("/var/lib/containers", "/var/lib/kubelet", "/var/lib/kubernetes-django", "/var/lib/minikube")
# What a kubelet sets for the whole machine, in a container or not. One of driver none sets the same.
SYSCTLS = ("kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops")
SYSCTLS += ("vm/overcommit_memory", "vm/panic_on_oom")


class Space:
    """The place, one at a time: `with Space() as space`.

    Attributes:
        folder: for the engine's files, empty at the start and deleted at the end.
    """

    def __init__(self) -> None:
        assert not str(CACHE).startswith(LAYERED), f"XDG_CACHE_HOME: {CACHE} lies in one of {LAYERED}"
        CACHE.mkdir(parents=True, exist_ok=True)
        # Short: a socket's path has 107 characters at most.
        self.folder = CACHE / "space"
        self._packages = Packages("network", *NETWORK)
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> Space:
        self._lock = (CACHE / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another test runs an engine of its own: it holds {CACHE / 'lock'}") from error
        # A test that was killed could not.
        self._clear()
        self.folder.mkdir()
        for name in SYSCTLS:
            (self.folder / name.replace("/", ".")).write_text(Path("/proc/sys", name).read_text())
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes = []
        self._clear()
        self._lock.close()

    def _begin(self) -> None:
        cgroups = make_cgroups()
        join = "for cgroup in {}; do echo $$ > $cgroup/cgroup.procs; done\n"
        # --kill-child: the first process, and with it every other one, ends when this one does. tini takes in the
        # processes whose parents ended, such as containerd's shims.
        unshare = "exec unshare --net --mount --pid --cgroup --fork --kill-child --mount-proc --"
        script = f"{join.format(' '.join(map(str, cgroups)))}{unshare} tini -s -- sleep infinity"
        holder = self._start(["sh", "-ec", script])
        self._wait_until("its namespaces", lambda: bool(children(holder.pid)))
        namespaces = f"/proc/{holder.pid}/ns"
        for process in (holder.pid, *children(holder.pid)):
            for cgroup in cgroups:
                (cgroup / "init" / "cgroup.procs").write_text(str(process))
        enter = self.folder / "enter"
        leaves = " ".join(str(cgroup / "init") for cgroup in cgroups)
        # The namespace of processes is that of this process's children. A new namespace of mounts means /.
        flags = f"--net={namespaces}/net --mount={namespaces}/mnt --cgroup={namespaces}/cgroup"
        flags += f" --pid={namespaces}/pid_for_children"
        # Whoever is there already cannot see the way, and needs none.
        mounts = Path(namespaces, "mnt").readlink()
        there = f'[ "$(readlink /proc/self/ns/mnt)" != "{mounts}" ] || exec "$@"\n'
        way = f'{join.format(leaves)}exec nsenter {flags} --wdns="$PWD" -- "$@"\n'
        enter.write_text(f"#!/bin/sh -e\n{there}{way}")
        enter.chmod(0o755)
        self._network = f"{namespaces}/net"
        self._mount(cgroups)
        self.run("ip", "link", "set", "lo", "up")
        # The largest packets: each costs a system call.
        self._start(["slirp4netns", "--configure", "--mtu=65520", "--netns-type=path", self._network, "tap0"])
        self._wait_until("its network", lambda: "default" in self.run("ip", "route"))

    def _mount(self, cgroups: list[Path]) -> None:
        for folder in LAYERED:
            upper, work = (self.folder / f"{kind}{folder.replace('/', '-')}" for kind in ("changes", "work"))
            upper.mkdir()
            work.mkdir()
            options = f"lowerdir={folder},upperdir={upper},workdir={work}"
            self.run("mount", "-t", "overlay", "-o", options, "overlay", folder)
        for folder in HIDDEN:
            # There may be none yet, and a cluster may be made while this test runs.
            if folder.startswith(LAYERED):
                self.run("mkdir", "-p", folder)
            if Path(folder).is_dir() or folder.startswith(LAYERED):
                self.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        for cgroup in cgroups:
            # Mounted anew, its root is the place's own cgroup.
            kind, source, options = cgroup_mount(cgroup.parent)
            self.run("umount", cgroup.parent)
            self.run("mount", "-t", kind, "-o", options, source, cgroup.parent)

    def _start(self, command: list[str]) -> subprocess.Popen:
        # However this test ends, the kernel ends the process with it.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=os.environ | self._packages.environment(),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / f"{command[0]}.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        return process

    def _wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                if holds():
                    return
            time.sleep(0.05)
        logs = "\n".join(log.read_text() for log in self.folder.glob("*.log"))
        raise RuntimeError(f"the engine's place did not get {what}: {logs}")

    def inside(self, *command: str | Path) -> list[str | Path]:
        """The command, to be run in the place as a whole, as the engine is."""
        return [self.folder / "enter", *command]

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Put this thread on the place's network, to ask what listens there, and leave it on this machine otherwise."""
        with Path("/proc/thread-self/ns/net").open() as own, Path(self._network).open() as other:
            _join(other.fileno())
            try:
                yield
            finally:
                _join(own.fileno())

    def run(self, *command: str | Path) -> str:
        """Run a command in the place; return what it prints."""
        return subprocess.run(self.inside(*command), check=True, capture_output=True, text=True).stdout

    def _clear(self) -> None:
        """Undo what outlives the processes: cgroups, kernel settings, files."""
        deadline = time.monotonic() + 20
        while left := [folder for root in hierarchies() for folder, _, _ in os.walk(root / CGROUP, topdown=False)]:
            for cgroup in left:
                # One is not empty until its last process is gone.
                with contextlib.suppress(OSError):
                    Path(cgroup).rmdir()
            assert time.monotonic() < deadline, f"cgroups are in use: {left}"
            time.sleep(0.05)
        for name in SYSCTLS:
            before, now = self.folder / name.replace("/", "."), Path("/proc/sys", name)
            if before.exists() and before.read_text() not in ("", now.read_text()):
                now.write_text(before.read_text())
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _join(namespace: int) -> None:
    # os.setns comes with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def hierarchies() -> list[Path]:
    """Where this machine's trees of cgroups begin."""
    root = Path("/sys/fs/cgroup")
    return [place for place in (root, *root.iterdir()) if (place / "cgroup.procs").exists() and place.is_mount()]


def make_cgroups() -> list[Path]:
    """Make the place's cgroup in each tree, with one for its own processes in it; return them."""
    made = []
    for root in hierarchies():
        (root / CGROUP).mkdir()
        for name in ("cpuset.cpus", "cpuset.mems", "cgroup.clone_children"):
            # Version 1: a new one has no processor and no memory, and lets nobody in.
            if (root / CGROUP / name).exists() and (root / "cgroup.clone_children").exists():
                (root / CGROUP / name).write_text("1" if "clone" in name else (root / name).read_text())
        (root / CGROUP / "init").mkdir()
        made.append(root / CGROUP)
    return made


def cgroup_mount(place: Path) -> tuple[str, str, str]:
    """How a tree of cgroups is mounted: file system, source, and the options that say which tree it is."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(place):
            kind, source, options = after.split()
            return kind, source, options if kind == "cgroup" else "rw"
    raise LookupError(place)


def children(process: int) -> list[int]:
    """The ids of a process's children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if re.search(rf"(?m)^PPid:\s*{process}$", status.read_text()):
                found.append(int(status.parent.name))
    return found
