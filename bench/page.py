"""Throughput of the status page against the tutorial's set-up: same server, same CPU, same requests, one run.

    .venv-test/bin/python bench/page.py            against the tutorial's set-up
    .venv-test/bin/python bench/page.py --proxy    and behind nginx, as in a pod

Each web server gets one core (its CPU limit), the throw-away PostgreSQL and wrk get the others. They are measured in
turn, several rounds each; the median round counts. nginx shares the one core with what is behind it, so that a pod with
it and a pod without may use the same. Needs wrk and PostgreSQL's programs (Debian: wrk, postgresql).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "webapp/tests"))

import proxies  # noqa: E402 (the tests' real servers)
import servers  # noqa: E402

CONNECTIONS = 8
TARGET_FACTOR, TARGET_P99_MS, TARGET_PROXY = 4.0, 50.0, 0.9
# The web servers' core.
PINNED = ("taskset", "--cpu-list", "0")


@contextlib.contextmanager
def gunicorn(arguments: list[str], folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    """A web server on core 0."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*PINNED, sys.executable, "-m", "gunicorn", *arguments],
            cwd=folder,
            env=servers.clean_env(env),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    if b"System Status" in answer.read():
                        break
                time.sleep(0.1)
            else:
                log.seek(0)
                raise RuntimeError(log.read().decode())
            yield
        finally:
            process.terminate()
            process.wait(30)


def measure(port: int, seconds: int) -> tuple[float, float, int]:
    """Requests per second, the 99th percentile in ms, and how many requests failed."""
    others = f"1-{os.cpu_count() - 1}" if os.cpu_count() > 1 else "0"
    command = ["taskset", "--cpu-list", others, "wrk", "--threads=1", f"--connections={CONNECTIONS}", "--latency"]
    text = subprocess.run(
        [*command, f"--duration={seconds}s", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    ).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return rate, p99, (int(failed[1]) if failed else 0) + sum(map(int, errors.groups() if errors else ()))


def main() -> int:
    """Measure and print; the exit code is 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", action="store_true", help="measure it behind nginx as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each round")
    options = parser.parse_args()
    for program, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if not shutil.which(program):
            parser.error(f"{program} is missing: apt-get install {package}")

    servers.manage("collectstatic", "--noinput", "-v0", env={"DJANGO_BUILD": "true"})
    postgres = servers.Postgres(servers.free_port())
    ports = {"tutorial": servers.free_port(), "webapp": servers.free_port()}
    set_ups = commands(ports, postgres.app_env("migrated"))
    if options.proxy:
        set_ups["proxy"] = set_ups["webapp"]
    results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in set_ups}
    try:
        for number in range(options.rounds):
            for name, (arguments, folder, env) in set_ups.items():
                app = ports["tutorial" if name == "tutorial" else "webapp"]
                with gunicorn(arguments, folder, env, app), door(name, app) as port:
                    measure(port, 1)  # warm up: connections, templates
                    results[name].append(measure(port, options.seconds))
                rate, p99, failed = results[name][-1]
                print(f"round {number + 1}  {name:<9} {rate:7.0f} requests/s  p99 {p99:6.1f} ms  {failed} failed")
    finally:
        postgres.remove()
    print(f"\n{CONNECTIONS} connections, one core for the web server, median of {options.rounds} rounds:")
    return 0 if judge(results) else 1


def commands(ports: dict[str, int], common: dict[str, str]) -> dict[str, tuple[list[str], Path, dict[str, str]]]:
    """Name of each set-up -> gunicorn's arguments, its folder and its environment.

    Args:
        ports: name -> where it listens.
        common: the environment that all have, with the database's login.
    """
    return {
        "tutorial": (
            ["--workers=3", "--timeout=180", f"--bind=127.0.0.1:{ports['tutorial']}", "tutorial:application"],
            ROOT / "bench",
            common,
        ),
        "webapp": (
            ["--config=gunicorn.conf.py", "kubernetes_django.wsgi"],
            ROOT / "webapp",
            common | {"PORT": str(ports["webapp"]), "CPU_LIMIT": "1"},
        ),
    }


@contextlib.contextmanager
def door(name: str, app: int) -> Iterator[int]:
    """The port to ask at: the app's own, or nginx's in front of it, on the same core."""
    if name != "proxy":
        yield app
        return
    with proxies.Proxy(app, prefix=PINNED) as proxy:
        yield proxy.port


def judge(results: dict[str, list[tuple[float, float, int]]]) -> bool:
    """Print each set-up's median round; return whether every target is met."""
    rates = {name: statistics.median(rate for rate, _, _ in rounds) for name, rounds in results.items()}
    p99s = {name: statistics.median(p99 for _, p99, _ in rounds) for name, rounds in results.items()}
    for name in results:
        print(f"  {name:<9} {rates[name]:7.0f} requests/s  p99 {p99s[name]:6.1f} ms")
    factor = rates["webapp"] / rates["tutorial"]
    print(f"  {factor:.1f} times the tutorial's (target {TARGET_FACTOR:.0f}), p99 target {TARGET_P99_MS:.0f} ms")
    good = factor >= TARGET_FACTOR and p99s["webapp"] < TARGET_P99_MS
    if "proxy" in results:
        share = rates["proxy"] / rates["webapp"]
        print(f"  behind nginx {share:.0%} of that (target {TARGET_PROXY:.0%})")
        good = good and share >= TARGET_PROXY
    return good and not sum(failed for name in results if name != "tutorial" for _, _, failed in results[name])


if __name__ == "__main__":
    sys.exit(main())
