"""docker, podman and buildah each build the images; what each made runs on the cluster here, and is the same.

Molecule's verify gives the site's place in the environment and runs this with pytest.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
from contents import Contents, loaded, remove
from engines.docker import Docker
from engines.podman import Podman
from scenario import URL, ask, changed, differences, items, playbook

ENGINES = {"docker": Docker, "podman": Podman, "buildah": contextlib.nullcontext}
# Of its own: the machine's remembers where images come from.
CACHE = programs.CACHE / "tests" / "images"
NAME = "engines"
contents: dict[str, dict[str, Contents]] = {}


def ours() -> list[str]:
    """The images of these tests that the node has."""
    return [reference for reference in loaded() if reference.startswith(f"localhost/{NAME}")]


@pytest.fixture(params=ENGINES)
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A program that builds, with nothing in its store, beside a node that has none of the images."""
    with ENGINES[request.param]() as engine:
        for name, value in getattr(engine, "environment", {}).items():
            monkeypatch.setenv(name, value)
        programs.share_packages(CACHE)
        forget(request.param)
        yield request.param
        forget(request.param)


def forget(builder: str) -> None:
    """Take the images of these tests out of the node, and out of the store of a builder that outlives its test."""
    if references := ours():
        remove(*references)
    if builder == "buildah":
        listed = ["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
        if built := [name for name in names if name.startswith(f"localhost/{NAME}")]:
            subprocess.run(["buildah", "rmi", "--force", *built], check=True, capture_output=True)


def test_images_of_each_builder_run(builder: str, tmp_path: Path) -> None:
    assert ours() == []
    where = {"image_builder": builder, "image_source": "debian", "image_name": NAME, "image_cache": str(CACHE)}
    variables = ["-e", json.dumps(where)]
    gone = playbook("playbooks/reset.yml", *variables, "-e", "reset_data=true")
    assert gone.returncode == 0, gone.stdout
    deployed = playbook("playbooks/deploy.yml", *variables)
    assert changed(deployed) > 0
    for step in ("Make the base image postgres from Debian packages", "Build the image of the web app"):
        # Data is deleted with an image too, so the first of both builds.
        assert step in gone.stdout + deployed.stdout
    assert ask("/api/status")[0] == 200
    assert json.loads(ask("/api/status")[1])["status"] == "operational", URL
    assert changed(playbook("playbooks/deploy.yml", *variables)) == 0
    images = {image for pod in items("pods") for image in images_of(pod)}
    assert images <= set(ours()), "a pod runs another image"
    contents[builder] = {image: Contents(image, tmp_path) for image in ours()}
    for image, found in contents[builder].items():
        print(f"{builder}: {image} has {len(found.files)} files")


def images_of(pod: dict) -> list[str]:
    """The images that a pod's containers run."""
    return [container["image"] for container in pod["spec"]["containers"]]


@pytest.mark.parametrize("other", ["docker", "podman"])
def test_builders_make_the_same(other: str) -> None:
    expected, made = contents["buildah"], contents[other]
    assert made.keys() == expected.keys()
    for image in expected:
        assert differences(expected[image].files, made[image].files) == {}
        assert differences(expected[image].settings, made[image].settings) == {}
