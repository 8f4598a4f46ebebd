"""A site that an older version deployed and backed up is taken over under traffic, and nothing of it is lost."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from scenario import PLACE, ROOT, TOOLS, URL, WITHOUT_COLOURS, changed, items, secret_values, sql
from traffic import Reader, Writer

# The version before this project was a collection.
OLD = "1b1a738d87cc"
# What its owner has set beside the main.yml of that version.
SETTINGS = f"""{PLACE}
postgres_archive: true
django_environment:
  DJANGO_NOTES_WRITABLE: "true"
"""


class Owner:
    """Somebody with an inventory of their own, who has the old checkout first, and this one afterwards."""

    def __init__(self, folder: Path) -> None:
        self.old = folder / "old"
        self.old.mkdir()
        archive = subprocess.run(["git", "archive", OLD], cwd=ROOT, capture_output=True, check=False)
        assert archive.returncode == 0, f"{OLD} has to be in this clone, which a shallow one lacks: {archive.stderr!r}"
        subprocess.run(["tar", "-x", "-C", self.old], input=archive.stdout, check=True)
        self.inventory = folder / "inventory"
        variables = self.inventory / "group_vars" / "all"
        variables.mkdir(parents=True)
        for file in (self.old / "group_vars" / "all").glob("*.yml"):
            (variables / file.name).write_text(file.read_text())
        (variables / "own.yml").write_text(SETTINGS)
        (self.inventory / "password").write_text("a password of their own\n")

    def run(self, checkout: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook of a checkout, with that checkout's hosts."""
        (self.inventory / "hosts.yml").write_text((checkout / "inventory" / "hosts.yml").read_text())
        settings = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        settings |= WITHOUT_COLOURS | {"ANSIBLE_VAULT_PASSWORD_FILE": str(self.inventory / "password")}
        return subprocess.run(
            [TOOLS / "ansible-playbook", "-i", self.inventory / "hosts.yml", f"playbooks/{name}.yml", *arguments],
            cwd=checkout,
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@dataclass
class Before:
    """What the old version left."""

    volumes: dict[str, str]
    secrets: dict[str, str]
    notes: set[str]


@dataclass
class Taken:
    """What its users noticed when the site was taken over."""

    reader: Reader
    writer: Writer


def volumes() -> dict[str, str]:
    """Each claim of the site -> its own uid and the volume it is bound to."""
    claims = items("persistentvolumeclaims")
    return {each["metadata"]["name"]: f"{each['metadata']['uid']} {each['spec']['volumeName']}" for each in claims}


def notes() -> set[str]:
    """The texts of all notes."""
    return set(sql("select text from notes_note").splitlines())


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("takeover"))


@pytest.fixture(scope="module")
def before(owner: Owner) -> Before:
    """The site of the old version, with rows and a backup."""
    assert changed(owner.run(owner.old, "deploy")) > 0
    sql("insert into notes_note (text, created_at) select 'old ' || n, now() from generate_series(1, 1000) n")
    assert changed(owner.run(owner.old, "backup")) > 0
    return Before(volumes(), secret_values(), notes())


@pytest.fixture(scope="module")
def taken(owner: Owner, before: Before) -> Taken:
    """The site after the first deploy of this checkout, made while it was in use."""
    with Reader(URL) as reader, Writer(URL) as writer:
        run = owner.run(ROOT, "deploy")
    print(f"pages: {reader.figures()}\nwrites: {writer.figures()}")
    assert run.returncode == 0, run.stdout + run.stderr
    return Taken(reader, writer)


def test_renamed_variable_is_refused(owner: Owner, before: Before) -> None:
    run = owner.run(ROOT, "deploy", "-e", "image_minikube_profile=minikube")
    assert run.returncode != 0
    assert "image_minikube_profile: this variable is called minikube_profile now." in run.stdout
    assert (volumes(), secret_values()) == (before.volumes, before.secrets)


def test_pages_fail_only_while_the_server_restarts(taken: Taken) -> None:
    """Once, for its new pod: with one server the database is away for so long. None is refused, and none hangs."""
    failures = taken.reader.failures
    assert {each.outcome for each in failures} <= {503}
    began = [each.began for each in failures]
    assert max(began, default=0) - min(began, default=0) < 15


def test_no_write_is_lost(taken: Taken) -> None:
    assert taken.writer.lost(notes()) == []


def test_volumes_and_rows_stay(before: Before, taken: Taken) -> None:
    now = volumes()
    assert {name: now[name] for name in before.volumes} == before.volumes
    assert before.notes <= notes()


def test_passwords_stay(before: Before, taken: Taken) -> None:
    now = secret_values()
    assert {name: now[name] for name in before.secrets} == before.secrets


def test_second_deploy_changes_nothing(owner: Owner, taken: Taken) -> None:
    assert changed(owner.run(ROOT, "deploy")) == 0


def test_backup_of_the_old_version_restores(owner: Owner, before: Before, taken: Taken) -> None:
    listed = owner.run(ROOT, "backups").stdout
    oldest = min(re.findall(r"\b20\d{6}T\d{6}Z[a-z-]*", listed))
    sql("delete from notes_note")
    run = owner.run(ROOT, "restore", "-e", f"backup={oldest}")
    assert run.returncode != 0
    assert "is not signed. If you trust it, as one that was made before backups were signed" in run.stdout
    run = owner.run(ROOT, "restore", "-e", f"backup={oldest}", "-e", "postgres_backup_unsigned=true")
    assert run.returncode == 0, run.stdout + run.stderr
    assert notes() == before.notes
