"""What another user could change is not run, and what a failure tells only its owner reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils.who_may_change import who_may_change
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import keep_report
from conftest import ROOT, Project

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))
import commands

OTHER = 1234567


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder with a program, as a run leaves it."""
    program = tmp_path / "cache" / "pins" / "bin" / "minikube"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    (tmp_path / "cache" / "current").symlink_to("pins")
    return tmp_path / "cache"


def test_own_folder_is_trusted(cache: Path) -> None:
    """Also below /tmp, where everybody writes and nobody changes what is another's; and one that is not there."""
    assert who_may_change(str(cache)) == ""
    assert who_may_change(str(cache / "none" / "such")) == ""


@pytest.mark.parametrize("name", ["pins", "pins/bin/minikube", "."])
def test_16_what_others_can_write_to_is_named(cache: Path, name: str) -> None:
    (cache / name).chmod(0o777)
    assert who_may_change(str(cache)) == f"{cache / name} can be written to by other users (mode 0777)"


def test_folder_above_counts_and_a_link_to_elsewhere(cache: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    message = f"{tmp_path} can be written to by other users (mode 0777)"
    assert who_may_change(str(cache / "pins")) == message
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(cache)
    assert who_may_change(str(link)) == message
    link.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["pins/bin/minikube", "current", "."])
def test_what_belongs_to_another_user_is_named(cache: Path, name: str) -> None:
    os.chown(cache / name, OTHER, OTHER, follow_symlinks=False)
    assert who_may_change(str(cache)) == f"{cache / name} belongs to user {OTHER}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("playbook", "message"),
    [
        (
            "cluster",
            "Nothing was touched: minikube_cache: {cache} belongs to user 1234567, and what lies there is run.",
        ),
        ("image", "Nothing was built: image_cache: {cache} belongs to user 1234567, and images are made of what lies"),
    ],
)
def test_playbooks_refuse_it_in_one_sentence(cache: Path, project: Project, playbook: str, message: str) -> None:
    os.chown(cache, OTHER, OTHER)
    given = json.dumps({"minikube_cache": str(cache), "image_cache": str(cache), "site_namespace": "own"})
    run = project.run(f"playbooks/{playbook}.yml", "-e", given)
    assert run.returncode != 0
    assert message.format(cache=cache) in " ".join((run.stdout + run.stderr).split())
    assert "changed=0" in run.stdout


def mode(path: Path) -> int:
    """The permissions of a path."""
    return path.stat().st_mode & 0o7777


def test_16_reports_and_logs_of_failures_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask; a folder that was there keeps its mode."""
    before = os.umask(0)
    try:
        kept = keep_report(str(tmp_path / "a" / "logs"), "site-pods", "what the pods say")
        assert (mode(kept), mode(kept.parent)) == (0o600, 0o700)
        assert kept.read_text() == "what the pods say\n"
        log = tmp_path / "cache" / "logs" / "build.log"
        log.parent.mkdir(parents=True, mode=0o755)
        log.touch(0o644)
        commands.perform(["echo", "said"], log, seconds=10, environment={})
        assert (mode(log), mode(log.parent), log.read_text()) == (0o600, 0o700, "said\n")
        shared = tmp_path / "shared"
        shared.mkdir(0o755)
        assert mode(keep_report(str(shared), "site-pods", "")) == 0o600
        assert mode(shared) == 0o755
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", [".vault-password", ".vault-password.AbC123", "group_vars/all/vault.yml.new"])
def test_git_never_takes_the_vaults_password(name: str) -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@pytest.mark.parametrize(
    "name",
    ["Makefile", "Dockerfile", "scripts/lock", "roles/minikube/tasks/programs.yml", "molecule/project/site/Dockerfile"],
)
def test_pip_installs_by_hash_alone(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if re.search(r"pip\W.*\binstall\b", line)]
    assert commands
    assert all("--require-hashes" in line for line in commands)


def test_web_image_leaves_pip_behind() -> None:
    """In its last stage, whatever base it has: the base's pip, and what `python -m ensurepip` would make one of."""
    last = (ROOT / "Dockerfile").read_text().rpartition("FROM ")[2].replace("\\\n", " ")
    (command,) = re.findall(r"^RUN rm -rf (.*)$", last, re.MULTILINE)
    for place in ("/usr/local/bin/pip*", "/usr/local/lib/python3*/site-packages/pip", "/usr/lib/python3*/ensurepip"):
        assert place in command.split()
    assert "/usr/share/python-wheels" in command.split()
