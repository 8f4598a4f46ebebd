"""The operator's side on macOS: with the programs that it has, and its own kinds of sed, stat, find and the like.

These run on Linux, with a PATH that holds nothing else: see macos.py and stand_ins/bsd.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project
from machines import Machine, registry
from test_bad_input import write_kubeconfig

CLUSTER = "playbooks/cluster.yml"
DESTROY = "playbooks/destroy.yml"
# What runs on Linux alone (all that is of the driver none, and apt), and what runs in pods.
ELSEWHERE = re.compile(
    r"roles/minikube/tasks/(none|anew|node_log|packages|packages_available|programs?|images|host|record)\.yml"
    r"|roles/minikube/tasks/(clear|network|destroy_none)\.yml|roles/image/tasks/packages\.yml"
    r"|roles/minikube/files/(clear|restore|minikube)\.sh|roles/minikube/files/(systemctl|containerd\.init)"
    r"|roles/(postgres|storage|django)/files/|roles/image/files/bases/|roles/postgres/tasks/"
)
# What a line must not have, by what it is.
GNU = {
    "a program that macOS lacks": [
        r"(^|[|;&('\s]|\$\()(timeout|setsid|tac|nproc|realpath|shuf|flock|sha256sum|md5sum|ip|ss)(?=[' ])"
    ],
    "a GNU option": [
        r"\bsed (-[a-z]*r|--)|\breadlink -f\b|\bstat (-c|-f -c|--)|\bdate -d|\b(ln|mv) -\w*T|\bgrep -\w*P",
        r"\bfind [^|]*-(regextype|printf)|\bcp (--|-\w*[dut])|\bmktemp --|\bdf (--|-\w*T)|\bhead -n -",
        r"\bxargs (-r|--)|\bsort -\w*V",
    ],
    "an expression that BSD's sed does not know": [r"\bsed [^|]*\\[tn+?|sw]"],
    "what bash 3.2 does not know": [
        r"\b(mapfile|readarray|coproc)\b|\b(declare|local|typeset) -\w*[An]|\bwait -n\b",
        r"\$\{\w+(\[[@*]\])?(,,?|\^\^?)\}|\$\{\w+@\w\}|\[\[ -v |&>>|\|&|\bprintf -v \S+\[",
    ],
}


@pytest.fixture
def mac(tmp_path: Path, shared_project: Project) -> Iterator[Machine]:
    """A Mac with Docker Desktop and minikube."""
    machine = Machine(tmp_path, shared_project, macos=True)
    with registry(200) as one:
        machine.variables["__minikube_registries"] = [one]
        yield machine


def test_the_tools_are_those_of_macos(mac: Machine) -> None:
    """What this machine has more would make the tests below say nothing."""
    refused = {
        ("timeout", "1", "true"): "timeout",
        ("readlink", "-f", "/"): "readlink: illegal option -- f",
        ("sed", "-r", "s/a/b/"): "sed: illegal option -- r",
        ("sed", "s/a/\\t/"): "sed: BSD's does not know this",
        ("stat", "-c", "%u", "/"): "stat: illegal option -- c",
        ("find", ".", "-regextype", "x"): "find: -regextype: unknown primary or operator",
        ("ln", "-T", "a", "b"): "ln: illegal option -- T",
        ("date", "-d", "now"): "date: illegal option -- d",
        ("cp", "--archive", "a", "b"): "cp: unrecognized option `--archive'",
        ("grep", "-P", "a", "/dev/null"): "grep: illegal option -- P",
        ("mktemp", "--directory"): "mktemp: unrecognized option `--directory'",
        ("uname", "-o"): "uname: illegal option -- o",
    }
    for command, words in refused.items():
        done = mac.run("sh", "-c", '"$0" "$@"', *command)
        assert done.returncode != 0, command
        assert words in done.stderr, command
    assert mac.run("uname", "-s", "-m").stdout == "Darwin arm64\n"
    assert mac.run("sh", "-c", "echo a | sed -E 's/(a)/b\\1/'; df -Pm /").stdout.startswith("ba\n")


def test_make_help(mac: Machine) -> None:
    lines = mac.run("make", "help").stdout.splitlines()
    assert "  make deploy         Start a cluster if none runs, build the images, deploy the site" in lines
    assert all(re.match(r"  make \S+ {2,}[A-Z]", line) for line in lines)


def test_make_sets_what_forks_need(mac: Machine) -> None:
    printed = mac.run("make", "--eval", "show: ; @env", "show").stdout
    assert "OBJC_DISABLE_INITIALIZE_FORK_SAFETY=YES\n" in printed


def test_check_host(mac: Machine) -> None:
    assert mac.run("scripts/check-host").returncode == 0
    mac.remove("python3")
    refused = mac.run("scripts/check-host")
    assert refused.returncode == 1
    assert "on macOS: brew install python" in refused.stderr
    # The one that Apple brings.
    (mac.programs / "python3").write_text("#!/bin/sh\nexit 0\n")
    (mac.programs / "python3").chmod(0o755)
    assert mac.run("scripts/check-host").returncode == 0


def test_vault_password(mac: Machine, tmp_path: Path) -> None:
    """The first use makes one, the second prints the same."""
    script = tmp_path / "checkout" / "scripts" / "vault-password"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "vault-password", script)
    first = mac.run(str(script))
    assert len(first.stdout.strip()) == 44, first.stderr
    assert mac.run(str(script)).stdout == first.stdout


def test_variables(mac: Machine) -> None:
    mac.variables["django_replicas"] = 0
    assert "django_replicas: 0 is out of range" in mac.fails("playbooks/variables.yml")


@pytest.mark.long
def test_cluster_and_destroy(mac: Machine) -> None:
    mac.succeeds(CLUSTER)
    assert mac.nodes() == {"minikube": {"engine": "docker", "state": "Running"}}
    mac.succeeds(CLUSTER, changed=False)
    mac.succeeds(DESTROY)


def test_podman_machine(mac: Machine) -> None:
    """On macOS podman runs in a machine of its own, and minikube does not ask for sudo."""
    mac.remove("docker")
    mac.add("podman")
    mac.succeeds(CLUSTER)
    assert mac.nodes() == {"minikube": {"engine": "podman", "state": "Running"}}
    assert not mac.calls("sudo")


@pytest.mark.long
def test_driver_none(mac: Machine) -> None:
    mac.variables["minikube_driver"] = "none"
    seen = mac.refuses(CLUSTER)
    assert "minikube_driver=none needs Linux, this is Darwin: set minikube_driver=docker or podman" in seen


def test_forks_do_not_ask_the_system_for_proxies(tmp_path: Path, shared_project: Project) -> None:
    """A Mac ends a fork that does; here a Python that believes itself on macOS ends it in the same way."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent("""\
            import os, sys, sysconfig, urllib.request
            sysconfig.get_config_vars()
            main = os.getpid()
            def getproxies():
                return urllib.request.getproxies_environment() or (os.abort() if os.getpid() != main else {})
            urllib.request.getproxies = getproxies
            sys.platform = "darwin"
            """)
    )
    config = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:9")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"), "")
    run = shared_project.run(
        "playbooks/deploy.yml", "-e", f"cluster_kubeconfig={config}", "-e", "cluster_context=there",
        PYTHONPATH=str(tmp_path), **proxies,
    )  # fmt: skip
    assert "No cluster answers at https://127.0.0.1:9 (context there)" in run.stdout + run.stderr


def operators_files() -> list[Path]:
    """What runs on the operator's machine, and may run on macOS."""
    places = ["Makefile", "site.yml", "scripts", "playbooks", "roles"]
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    roles = re.compile(r"roles/\w+/(tasks|files|vars|defaults)/")
    names = [name for name in listed if not name.startswith("roles/") or roles.match(name)]
    names = [name for name in names if not ELSEWHERE.match(name)]
    return [
        ROOT / name for name in names if (ROOT / name).is_file() and not name.endswith((".sum", ".mod", ".txt", ".py"))
    ]


def findings(line: str) -> list[str]:
    """Why a line needs another system than macOS."""
    return (
        []
        if line.lstrip().startswith("#")
        else [why for why, rules in GNU.items() for rule in rules if re.search(rule, line)]
    )


def test_nothing_needs_gnu_or_a_new_bash() -> None:
    """Also where no test above comes; Python and what the driver none alone runs are left out."""
    files = operators_files()
    assert {ROOT / "scripts" / "test", ROOT / "roles" / "minikube" / "tasks" / "up.yml"} <= set(files)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {why}: {line.strip()}"
        for file in files
        if "python" not in file.read_text().partition("\n")[0]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for why in findings(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "say docker $(timeout 10 docker info)",
        "    cmd: timeout --kill-after=10 120 minikube delete",
        "argv: ['timeout', '--kill-after=10']",
        r"@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p'",
        r"sed -n '/fatal: \|= FAILURES =/p'",
        'here=$(dirname "$(readlink -f "$0")")',
        "stat -f -c %T /sys/fs/cgroup",
        r"find . -type d -regextype posix-extended",
        "ln -sfT a b",
        "mapfile -t lines",
        "declare -A names",
        "echo ${name,,}",
        "wait -n",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert findings(line)


def test_empty_lists_do_not_end_bash_3() -> None:
    """Under `set -u`, macOS' bash takes the list of nothing for a variable that is not set."""
    script = (ROOT / "scripts" / "test").read_text()
    assert "set -uo pipefail" in script
    for name in re.findall(r"^(\w+)=\(\)|\b(\w+)=\(\)$", script, re.MULTILINE):
        bare = re.findall(rf'(?<!\+)"\$\{{{name[0] or name[1]}\[@\]\}}"', script)
        assert not bare, bare
