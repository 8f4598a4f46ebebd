#!/usr/bin/env python3
"""Transactions a second through a Service against those inside the database's own pod: one server, one run.

    bench/database.py --namespace default

Works on the site that runs in that namespace. One pgbench runs in the server's pod and goes to the pod's loopback; the
other one is the same program, in a pod of the same image and the same limits on the node's own network, and goes to
127.0.0.1, to a node port that a Service opens for as long as this takes. Both speak TLS and SCRAM as the site's pods
do. After a round to warm up the two take turns, and take turns in who begins; the median of the rounds' ratios counts.
Database, role and namespace are its own, and go in the end. Needs kubectl, and a cluster whose nodes answer node ports
at 127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import statistics
import subprocess

TARGET = 0.9
NAME = "pgbench"
KINDS = {"reading (-S)": ["-S"], "reading and writing (TPC-B)": []}
WARM_UP_SECONDS = "2"


class Bench:
    """The server in a namespace, and the two ways to it.

    Args:
        namespace: of the site.
        seconds: of each round.
    """

    def __init__(self, namespace: str, seconds: int) -> None:
        self.namespace, self.password = namespace, secrets.token_hex(16)
        # The simple protocol, as Django's driver speaks it.
        self.how = ["-n", "-M", "simple", "-c", "8", "-j", "2", "-U", NAME]
        self.seconds = str(seconds)
        self.server = json.loads(self.kubectl("get", "pod", "postgres-0", "-o", "json"))
        self.container = next(each for each in self.server["spec"]["containers"] if each["name"] == "postgres")
        self.port = str(self.container["ports"][0]["containerPort"])

    def kubectl(self, *arguments: str, stdin: str = "", namespace: str = "") -> str:
        """Run kubectl in the site's namespace, or in another one; return what it prints."""
        command = ["kubectl", "--namespace", namespace or self.namespace, *arguments]
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
        spec = {"type": "NodePort", "selector": selector, "ports": [{"port": int(self.port)}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}
        made = json.loads(self.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(service)))
        self.node_port = str(made["spec"]["ports"][0]["nodePort"])
        client = {name: self.container[name] for name in ("image", "imagePullPolicy", "resources")}
        client |= {"name": NAME, "command": ["sleep", "infinity"]}
        spec = {"hostNetwork": True, "terminationGracePeriodSeconds": 0, "containers": [client]}
        spec["nodeName"] = self.server["spec"]["nodeName"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}
        self.kubectl("create", "namespace", NAME)
        self.kubectl("create", "-f", "-", stdin=json.dumps(pod), namespace=NAME)
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{NAME}", namespace=NAME)
        # A node port answers a second after its Service is there.
        answers = f"until pg_isready -q -h 127.0.0.1 -p {self.node_port}; do sleep 0.2; done"
        self.kubectl("exec", NAME, "--", "timeout", "30", "sh", "-c", answers, namespace=NAME)

    def drop(self) -> None:
        """Take all of it away."""
        self.kubectl("delete", "namespace", NAME, "--ignore-not-found")
        self.kubectl("delete", "service", NAME, "--ignore-not-found")
        self.sql(f"drop database if exists {NAME} with (force)")
        self.sql(f"drop role if exists {NAME}")

    def pgbench(self, port: str, *arguments: str) -> list[str]:
        """The command that runs it against a port of 127.0.0.1."""
        environment = [f"PGPASSWORD={self.password}", "PGSSLMODE=require"]
        return ["env", *environment, "pgbench", "-h", "127.0.0.1", "-p", port, *arguments, NAME]

    def inside(self, *arguments: str) -> str:
        """Run pgbench in the server's pod."""
        return self.kubectl("exec", "postgres-0", "-c", "postgres", "--", *self.pgbench(self.port, *arguments))

    def through(self, *arguments: str) -> str:
        """Run pgbench in a pod of its own, through the Service."""
        return self.kubectl("exec", NAME, "--", *self.pgbench(self.node_port, *arguments), namespace=NAME)

    def rounds(self, number: int, *flags: str) -> dict[str, list[float]]:
        """Transactions a second of each round, of both ways."""
        ways = {"inside": self.inside, "through": self.through}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for run in ways.values():
            run(*self.how, *flags, "-T", WARM_UP_SECONDS)
        for index in range(number):
            for way in sorted(ways, reverse=index % 2 == 1):
                rates[way].append(rate(ways[way](*self.how, *flags, "-T", self.seconds)))
        return rates


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
    reached = True
    try:
        bench.make(options.scale)
        for kind, flags in KINDS.items():
            rates = bench.rounds(options.rounds, *flags)
            # Both of a round meet the same neighbours on the machine; those of another round meet others.
            ratio = statistics.median(b / a for a, b in zip(rates["inside"], rates["through"], strict=True))
            inside, through = (statistics.median(found) for found in rates.values())
            print(
                f"{kind}: {ratio:.0%} of the rate inside the pod (at least {TARGET:.0%});"
                f" {through:.0f} transactions/s through the Service, {inside:.0f} inside"
            )
            print(f"  rounds: {json.dumps({way: [round(each) for each in found] for way, found in rates.items()})}")
            reached = reached and ratio >= TARGET
    finally:
        bench.drop()
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
