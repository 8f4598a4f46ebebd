"""What the tests of releases share: images to release, and requests while something happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import variants
from scenario import NO_TIME_OUT, URL, changed, playbook, web_pods
from traffic import Reader

# What each case is promised for; the short form is there to find what breaks at once.
REQUESTS = 5000 if os.environ.get("SITE_TESTS") == "long" else 2000
RATE = 150

MIGRATION = """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("notes", "0004_created_at_index")]
    operations = [{operations}]
"""

Image = Callable[..., str]


@pytest.fixture(scope="session")
def original() -> str:
    """The image that the scenario was deployed with."""
    return variants.base()


@pytest.fixture(scope="session")
def image(original: str) -> Image:
    """Make an image with one more migration, or with other lines in its Containerfile."""

    def make(name: str, operations: str = "", files: dict[str, str] | None = None, lines: str = "") -> str:
        more = {f"notes/migrations/0005_{name}.py": MIGRATION.format(operations=operations)} if operations else {}
        return variants.make(name, more | (files or {}), original, lines)

    return make


@pytest.fixture(scope="session")
def additive(image: Image) -> str:
    """A release that adds a column which older code need not know."""
    return image("additive", 'migrations.AddField("note", "additive", models.IntegerField(db_default=0))')


@pytest.fixture(autouse=True)
def back_to_the_original(original: str) -> Iterator[None]:
    """After each test the site is as the scenario deployed it; what migrations added stays, as older code may bear."""
    yield
    if variants.base() != original or not_ready():
        changed(playbook("playbooks/deploy.yml"))


def not_ready() -> list[str]:
    """Names of the web pods that are not ready."""
    return [
        pod["metadata"]["name"]
        for pod in web_pods()
        if not all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
    ]


@contextlib.contextmanager
def requests(what: str) -> Iterator[Reader]:
    """Constant requests while something happens, and on until there were enough; none of them may fail."""
    began = time.monotonic()
    with Reader(URL, "/api/notes", rate=RATE, threads=8) as reader:
        time.sleep(1)
        yield reader
        while len(reader.requests) < REQUESTS and time.monotonic() - began < 300:
            time.sleep(0.2)
    print(f"{what}: {reader.figures()}")
    assert reader.failures == []
    assert len(reader.requests) >= REQUESTS


@contextlib.contextmanager
def clock(what: str) -> Iterator[None]:
    """Print how long a play takes that fails; one that waits for a time-out instead of looking takes too long."""
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    print(f"{what}: the play ended after {seconds:.1f} s (promised: 60 s)")
    assert seconds < NO_TIME_OUT


def deploy(reference: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Release an image."""
    return playbook("playbooks/deploy.yml", "-e", f"django_image={reference}", *arguments)


def failed(run: subprocess.CompletedProcess[str], *messages: str) -> str:
    """Check that a play failed and said all of this; return what it said from the first failure on."""
    assert run.returncode != 0, run.stdout
    said = run.stdout[run.stdout.index("fatal: ") :]
    for message in messages:
        assert message in said, f"{message!r} is not in:\n{said}"
    return said


def serves(reference: str) -> None:
    """Check that only ready pods with this image are there."""
    for _ in range(30):
        images = {pod["spec"]["containers"][0]["image"] for pod in web_pods()}
        if images == {reference} and not not_ready():
            return
        time.sleep(0.5)
    raise AssertionError(f"{images} serve, {not_ready()} are not ready")
