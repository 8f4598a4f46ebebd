"""A scenario's site as a test sees it: through kubectl, the playbooks and the node port.

Molecule's verify gives its place in the environment: see verify.yml beside this file.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ["SITE_URL"]
NAME, NAMESPACE = os.environ["SITE_NAME"], os.environ["SITE_NAMESPACE"]
# Where this scenario's site is, for tests that deploy by an inventory of their own: from there it is taken away.
PLACE = f"""
site_name: {NAME}
site_namespace: {NAMESPACE}
cluster_context: {os.environ["SITE_CONTEXT"]}
django_node_port: {URL.rpartition(":")[2]}
storage_volume: {NAME}-pv
storage_path: /data/{NAME}-pv
"""
TOOLS = Path(sys.executable).parent
# Molecule asks for colours, which would stand in the midst of a message.
WITHOUT_COLOURS = {"ANSIBLE_FORCE_COLOR": "0"}
# Seconds. A play that looks ends before, also on a busy machine; one that waits for a time-out takes ten minutes.
NO_TIME_OUT = 400
# What playbooks/status.yml says of every server.
DATABASE = (
    r"PostgreSQL \d+\.\d+.*, up since 20\d\d-",
    r"size \d+ kB",
    r"\d+ of 97 connections used",
    r"longest transaction (none|\d+ s)",
)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl on the site's cluster and namespace; return what it prints."""
    command = kubectl_command(*arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout


def kubectl_command(*arguments: str) -> list[str]:
    """The command that runs kubectl on the site's cluster and namespace."""
    place = ("--kubeconfig", os.environ["SITE_KUBECONFIG"], "--context", os.environ["SITE_CONTEXT"])
    return ["kubectl", *place, "--namespace", NAMESPACE, *arguments]


def begin_kubectl(*arguments: str) -> subprocess.Popen[str]:
    """Start kubectl on the site's cluster and namespace, and do not wait for it."""
    return subprocess.Popen(kubectl_command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def items(kinds: str, *arguments: str) -> list[dict]:
    """Objects of these kinds in the site's namespace."""
    return json.loads(kubectl("get", kinds, "-o", "json", *arguments))["items"]


def as_they_are(kinds: str) -> dict[str, dict]:
    """The site's objects of these kinds, without what controllers write: their status, and who set what."""
    found = {}
    for item in items(kinds):
        item.pop("status", None)
        for key in ("resourceVersion", "managedFields"):
            item["metadata"].pop(key, None)
        found[f"{item['kind']}/{item['metadata']['name']}"] = item
    return found


def differences(before: object, after: object, path: str = "") -> dict[str, tuple]:
    """What differs: path to it -> what was there, what is."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return {} if before == after else {path: (before, after)}
    found = {}
    for key in before.keys() | after.keys():
        found |= differences(before.get(key), after.get(key), f"{path}/{key}")
    return found


def playbook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the site of this test."""
    return subprocess.run(
        ansible_playbook(name, *arguments),
        cwd=ROOT,
        env=os.environ | WITHOUT_COLOURS,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def begin(name: str, *arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start a playbook on the site of this test, with a group of processes of its own, and do not wait for it.

    Args:
        name: of the playbook.
        arguments: further ones of ansible-playbook.
        output: where it goes, as subprocess has it. A pipe that nobody reads holds the playbook up.
    """
    return subprocess.Popen(
        ansible_playbook(name, *arguments),
        cwd=ROOT,
        env=os.environ | WITHOUT_COLOURS,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stop_minikube() -> None:
    """As its owner does in the evening."""
    stop = ["minikube", "stop", "--profile", os.environ["SITE_CONTEXT"]]
    subprocess.run(stop, check=True, capture_output=True, timeout=180, stdin=subprocess.DEVNULL)


def start_minikube() -> None:
    """As `make deploy` does in the morning."""
    run = playbook("playbooks/cluster.yml")
    assert run.returncode == 0, run.stdout


def kill(run: subprocess.Popen[str]) -> None:
    """End a playbook that was begun, and all that it started, as a lost machine would."""
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def ansible_playbook(name: str, *arguments: str) -> list[str | Path]:
    """The command that runs a playbook on the site of this test."""
    return [TOOLS / "ansible-playbook", "-i", os.environ["SITE_INVENTORY"], name, *arguments]


def matches(text: str, *patterns: str) -> None:
    """Check that a text holds each of these regular expressions."""
    for pattern in patterns:
        assert re.search(pattern, text), f"{pattern} is not in {text}"


def changed(run: subprocess.CompletedProcess[str]) -> int:
    """How many tasks changed something."""
    assert run.returncode == 0, run.stdout + run.stderr
    return int(re.search(r"changed=(\d+)", run.stdout)[1])


def ask(path: str, data: dict | None = None) -> tuple[int, str]:
    """GET a path of the site through its node port, or POST it a JSON object."""
    request = urllib.request.Request(f"{URL}{path}", headers={"Accept": "application/json"})
    if data is not None:
        request.data = json.dumps(data).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read().decode()


def secret_values() -> dict[str, str]:
    """Secret/key -> value, of the passwords and keys."""
    return {
        f"{secret['metadata']['name']}/{key}": base64.b64decode(value).decode()
        for secret in items("secrets")
        for key, value in secret.get("data", {}).items()
        if key not in ("user", "id")
    }


def web_pods() -> list[dict]:
    """The web pods that are not on their way out."""
    pods = items("pods", "-l", "app.kubernetes.io/component=web")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def sql(statement: str, database: str = "kubernetes_django") -> str:
    """Run SQL in the database's pod, as the superuser."""
    place = ("exec", "-i", "postgres-0", "-c", "postgres", "--")
    psql = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database)
    return kubectl(*place, *psql, stdin=statement).strip()


def wait_for(condition: Callable[[], bool], seconds: float, told: Callable[[], str] = str) -> float:
    """Wait until something is so; return how many seconds that took.

    Args:
        condition: what is waited for.
        seconds: how long.
        told: what to say beside, when it is not so in time.

    Raises:
        AssertionError: it is not so in time.
    """
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds} s {told()}"
        time.sleep(0.2)
    return time.monotonic() - began


def site_id() -> str:
    """The site's own id, below which its backups and its archive are in a place that it may share."""
    return base64.b64decode(kubectl("get", "secret", "site-id", "-o", "jsonpath={.data.id}")).decode()


def wait_for_base_backup(archives: Path = Path(f"/data/{NAMESPACE}-backups/archive")) -> None:
    """Wait until pgBackRest has noted a base backup of this server as complete."""
    noted = (
        archives
        / site_id()
        / sql("select system_identifier from pg_control_system()")
        / "backup"
        / "main"
        / "backup.info"
    )
    wait_for(
        lambda: noted.exists() and "backup-timestamp-stop" in noted.read_text(),
        120,
        lambda: kubectl("logs", "postgres-0", "-c", "archive"),
    )


def metrics() -> str:
    """What the exporter answers, once it has logged in."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/postgres-exporter:9187/proxy/metrics"
    for _ in range(50):
        answer = kubectl("get", "--raw", path)
        if re.search(r"(?m)^pg_up 1$", answer):
            return answer
        time.sleep(0.3)
    raise AssertionError(answer)


def pods_as_they_are() -> dict[str, int]:
    """Pod -> restarts, of those that are not on their way out; another pod has another name or another uid."""
    return {
        f"{pod['metadata']['name']}/{pod['metadata']['uid']}": sum(
            status["restartCount"] for status in pod["status"]["containerStatuses"]
        )
        for pod in items("pods")
        if "deletionTimestamp" not in pod["metadata"]
    }
