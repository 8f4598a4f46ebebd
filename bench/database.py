#!/usr/bin/env python3
"""Transactions a second through a Service against those inside the database's own pod: one server, one run.

    bench/database.py --namespace default

Works on the site that runs in that namespace. pgbench runs on this machine and goes to 127.0.0.1, to a node port that
a Service of its own opens for as long as this takes; and inside the pod, where it goes to the pod's loopback. Both
speak TLS and SCRAM as the site's pods do. The two take turns, several rounds each; the median round counts. It has a
database and a role of its own, which go in the end. Needs kubectl and pgbench (Debian: postgresql).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path

TARGET = 0.9
NAME = "pgbench"
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}}
KINDS = {"reading (-S)": ["-S"], "reading and writing (TPC-B)": []}


def find_pgbench() -> str:
    """The newest pgbench of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), key=lambda path: int(path.parts[4]))
    program = shutil.which("pgbench") or (str(found[-1]) if found else "")
    assert program, "no pgbench on this machine: apt-get install postgresql"
    return program


class Bench:
    """The server in a namespace, and the two ways to it.

    Args:
        namespace: of the site.
        seconds: of each round.
    """

    def __init__(self, namespace: str, seconds: int) -> None:
        self.namespace, self.password = namespace, secrets.token_hex(16)
        self.how = ["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", str(seconds), "-U", NAME]
        self.server = json.loads(self.kubectl("get", "pod", "postgres-0", "-o", "json"))
        container = next(each for each in self.server["spec"]["containers"] if each["name"] == "postgres")
        self.port = str(container["ports"][0]["containerPort"])

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in the namespace; return what it prints."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE, text=True).stdout

    def sql(self, statement: str) -> None:
        """Run SQL as the superuser."""
        psql = ["psql", "-XAtq", "-U", "postgres", "-p", self.port, "-v", "ON_ERROR_STOP=1", "-f", "-"]
        quiet = "set client_min_messages = warning;\n"
        self.kubectl("exec", "-i", "postgres-0", "-c", "postgres", "--", *psql, stdin=quiet + statement)

    def make(self, scale: int) -> None:
        """Database, role, rows, and the Service."""
        self.drop()
        self.sql(f"create role {NAME} login password '{self.password}'; create database {NAME} owner {NAME}")
        self.inside("-i", "-q", "-s", str(scale), "-U", NAME)
        selector = {"app.kubernetes.io/name": self.server["metadata"]["labels"]["app.kubernetes.io/name"]}
        service = SERVICE | {"spec": {"type": "NodePort", "selector": selector, "ports": [{"port": int(self.port)}]}}
        made = json.loads(self.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(service)))
        self.node_port = str(made["spec"]["ports"][0]["nodePort"])
        # A node port answers a second after its Service is there.
        for _ in range(50):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self.node_port)), 1):
                return
            time.sleep(0.2)
        raise SystemExit("node ports do not answer at 127.0.0.1: this is for minikube with the driver none")

    def drop(self) -> None:
        """Take all of it away."""
        self.kubectl("delete", "service", NAME, "--ignore-not-found")
        self.sql(f"drop database if exists {NAME} with (force)")
        self.sql(f"drop role if exists {NAME}")

    def inside(self, *arguments: str) -> str:
        """Run pgbench in the pod."""
        environment = [f"PGPASSWORD={self.password}", "PGSSLMODE=require"]
        command = ["env", *environment, "pgbench", "-h", "127.0.0.1", "-p", self.port, *arguments, NAME]
        return self.kubectl("exec", "postgres-0", "-c", "postgres", "--", *command)

    def through(self, *arguments: str) -> str:
        """Run pgbench on this machine, to the node port on 127.0.0.1."""
        command = [find_pgbench(), "-h", "127.0.0.1", "-p", self.node_port, *arguments, NAME]
        environment = os.environ | {"PGPASSWORD": self.password, "PGSSLMODE": "require"}
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def rate(output: str) -> float:
    """Transactions a second that pgbench printed."""
    return float(re.search(r"(?m)^tps = ([\d.]+)", output)[1])


def main() -> int:
    """Measure and print; the exit code is 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each round")
    parser.add_argument("--scale", type=int, default=10, help="100,000 rows each")
    options = parser.parse_args()
    bench = Bench(options.namespace, options.seconds)
    bench.make(options.scale)
    reached = True
    try:
        for kind, flags in KINDS.items():
            rates: dict[str, list[float]] = {"inside": [], "through": []}
            for _ in range(options.rounds):
                for way, found in rates.items():
                    found.append(rate(getattr(bench, way)(*bench.how, *flags)))
            inside, through = (statistics.median(found) for found in rates.values())
            print(
                f"{kind}: {through:.0f} transactions/s through the Service, {inside:.0f} inside the pod:"
                f" {through / inside:.0%} (at least {TARGET:.0%})"
            )
            print(f"  rounds: {json.dumps({way: [round(each) for each in found] for way, found in rates.items()})}")
            reached = reached and through >= TARGET * inside
    finally:
        bench.drop()
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
