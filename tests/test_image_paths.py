"""An image gets into each kind of cluster by its own command, and what stands in the way is one sentence.

playbooks/image.yml runs as a user runs it. The programs on PATH are stand-ins (tests/stand_ins/images), strict ones;
the cluster is an API server that knows nodes alone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project

STAND_INS = ROOT / "tests" / "stand_ins" / "images"
PYTHON = "docker.io/library/python:3.13.12-slim-trixie"
POSTGRES = "docker.io/library/postgres:17.12-trixie"
NGINX = "docker.io/nginxinc/nginx-unprivileged:1.28.0-alpine3.21"


def node(name: str, **changed: Any) -> dict[str, Any]:
    """A node, as the API server gives it. `changed`: architecture, version, address, labels, images, taints."""
    information = {
        "architecture": changed.get("architecture", "amd64"),
        "operatingSystem": changed.get("system", "linux"),
        "kubeletVersion": changed.get("version", "v1.35.1"),
    }
    return {
        "metadata": {"name": name, "labels": changed.get("labels", {})},
        "spec": {"taints": changed.get("taints", [])},
        "status": {
            "nodeInfo": information,
            "addresses": [{"type": "InternalIP", "address": changed.get("address", "192.0.2.10")}],
            "images": [{"names": changed.get("images", [])}],
        },
    }


class Cluster:
    """An API server with these nodes; `status` is what it answers with."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.status = 200
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                refused = {"kind": "Status", "message": 'nodes is forbidden: User "deployer" cannot list resource'}
                body = json.dumps(refused if cluster.status != 200 else {"items": cluster.nodes}).encode()
                self.send_response(cluster.status if self.path == "/api/v1/nodes" else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, context: str) -> str:
        """A kubeconfig with this one context."""
        server = f"http://127.0.0.1:{self.server.server_address[1]}"
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": context,
                "clusters": [{"name": context, "cluster": {"server": server}}],
                "users": [{"name": context, "user": {"token": "nothing"}}],
                "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            }
        )


class Machine:
    """A machine with stand-ins, a cluster, and a home of its own."""

    def __init__(self, folder: Path, project: Project, cluster: Cluster) -> None:
        self.folder, self.project, self.cluster = folder, project, cluster
        self.state = folder / "state"
        (self.state / "nodes").mkdir(parents=True)
        self.home = folder / "home"
        self.home.mkdir()
        (self.state / "store").write_text(f"{PYTHON}\n{POSTGRES}\n{NGINX}\n")
        self.says()
        # Nothing of this machine's own that builds.
        self.programs = folder / "programs"
        self.programs.mkdir()
        (self.programs / "python3").symlink_to(sys.executable)
        for name in ("sh", "git", "cat"):
            (self.programs / name).symlink_to(f"/bin/{name}" if name != "git" else "/usr/bin/git")
        self.context = "kind-dev"

    def says(self, **answers: Any) -> None:
        """What the stand-ins say, beyond their defaults."""
        (self.state / "engine.json").write_text(json.dumps(answers))

    def has(self, *programs: str) -> None:
        """Put stand-ins on PATH."""
        for name in programs:
            (self.programs / name).symlink_to(STAND_INS / name)

    def has_node(self, name: str, container: str = "", **changed: Any) -> None:
        """Add a node to the cluster, and to the machine, where it may be called otherwise."""
        self.cluster.nodes.append(node(name, **changed))
        (self.state / "nodes" / (container or name)).write_text("")

    def on(self, name: str) -> list[str]:
        """Images on a node."""
        return (self.state / "nodes" / name).read_text().split()

    def commands(self) -> list[str]:
        """What was run, and no mere questions."""
        run = (self.state / "commands").read_text().splitlines() if (self.state / "commands").exists() else []
        verbs = (" build ", " save ", " push ", " load ", " import ")
        return [line for line in run if any(verb in line for verb in verbs)]

    def run(self, *arguments: str, **variables: Any) -> tuple[bool, str]:
        """Run playbooks/image.yml; return whether it went well, and what a user sees."""
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(self.cluster.kubeconfig(self.context))
        values = {
            "cluster_provider": "existing",
            "cluster_kubeconfig": str(kubeconfig),
            "cluster_context": self.context,
            "image_source": "registry",
            "image_cache": str(self.folder / "cache"),
        }
        done = self.project.run(
            "playbooks/image.yml",
            "-e",
            json.dumps(values | variables),
            *arguments,
            PATH=str(self.programs),
            HOME=str(self.home),
            STAND_INS=str(self.state),
            PYTHONDONTWRITEBYTECODE="1",
        )
        # Ansible breaks long lines, and doubles quotes where it does.
        seen = " ".join((done.stdout + done.stderr).split()).replace("''", "'")
        assert "Traceback" not in seen, seen
        return done.returncode == 0, seen

    def refuses(self, *sentences: str, **variables: Any) -> None:
        """Run it; it must fail with these words, before anything is built."""
        went_well, seen = self.run(**variables)
        assert not went_well, seen
        for sentence in ("Nothing was built. Mend this first:", *sentences):
            assert sentence in seen, f"{sentence!r} is not in {seen}"
        assert "changed=0" in seen, seen
        assert self.commands() == []


@pytest.fixture
def machine(tmp_path: Path, shared_project: Project) -> Iterator[Machine]:
    cluster = Cluster()
    yield Machine(tmp_path, shared_project, cluster)
    cluster.server.shutdown()
    cluster.server.server_close()


def reference(seen: str, names: list[str]) -> str:
    """The one image that is there."""
    assert len(names) == 1, seen
    assert names[0].startswith("localhost/kubernetes-django:sha-"), names
    return names[0]


def test_kind(machine: Machine) -> None:
    """Into every node, and not again while every node has it."""
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    machine.has_node("dev-worker")
    went_well, seen = machine.run()
    assert went_well, seen
    image = reference(seen, machine.on("dev-worker"))
    assert machine.on("dev-control-plane") == [image]
    before = machine.commands()
    assert [line.split()[:3] for line in before][-1] == ["kind", "load", "image-archive"]
    assert before[-1].endswith("--name dev")
    went_well, seen = machine.run()
    assert went_well, seen
    assert "changed=0" in seen
    assert machine.commands() == before
    # A worker is made anew: only then it is loaded again, and nothing is built.
    (machine.state / "nodes" / "dev-worker").write_text("")
    went_well, seen = machine.run()
    assert went_well, seen
    assert [line.split()[1] for line in machine.commands()[len(before) :]] == ["save", "load"]


@pytest.mark.long
def test_what_all_nodes_say_they_have_is_not_asked_for_again(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    went_well, seen = machine.run()
    assert went_well, seen
    machine.cluster.nodes = [node("dev-control-plane", images=machine.on("dev-control-plane"))]
    (machine.state / "commands").unlink()
    went_well, seen = machine.run()
    assert went_well, seen
    assert not (machine.state / "commands").exists()


@pytest.mark.long
def test_kind_has_no_such_cluster(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    (machine.state / "nodes" / "dev-control-plane").unlink()
    machine.refuses(
        "kind's cluster dev does not answer (Error response from daemon: No such container: dev-control-plane)",
        "kind get clusters",
    )


@pytest.mark.long
def test_kind_has_no_room(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    machine.says(full=["dev-control-plane"])
    went_well, seen = machine.run()
    assert not went_well
    assert "no space left on device" in seen
    assert "Do all nodes run, and have they room?" in seen


def test_k3d(machine: Machine) -> None:
    machine.context = "k3d-dev"
    machine.has("docker", "k3d")
    machine.has_node("k3d-dev-server-0", version="v1.33.5+k3s1")
    machine.has_node("k3d-dev-agent-0", version="v1.33.5+k3s1")
    went_well, seen = machine.run()
    assert went_well, seen
    assert machine.on("k3d-dev-agent-0") == [reference(seen, machine.on("k3d-dev-server-0"))]
    assert machine.commands()[-1].startswith("k3d image import ")


@pytest.mark.long
def test_k3d_ends_well_and_a_node_has_refused(machine: Machine) -> None:
    machine.context = "k3d-dev"
    machine.has("docker", "k3d")
    machine.has_node("k3d-dev-server-0")
    machine.has_node("k3d-dev-agent-0")
    machine.says(full=["k3d-dev-agent-0"])
    went_well, seen = machine.run()
    assert not went_well, seen
    assert "k3d's cluster dev took localhost/kubernetes-django:sha-" in seen
    assert "without complaint, but does not have it. Do all nodes run, and have they room?" in seen


@pytest.mark.long
def test_k3s(machine: Machine) -> None:
    """A k3s, whatever its context is called, whose node is this machine."""
    machine.context = "default"
    machine.has("docker", "k3s")
    machine.has_node(socket.gethostname(), "k3s", version="v1.33.5+k3s1", address="127.0.0.1")
    went_well, seen = machine.run()
    assert went_well, seen
    reference(seen, machine.on("k3s"))
    went_well, seen = machine.run()
    assert went_well, seen
    assert "changed=0" in seen


@pytest.mark.long
def test_k3s_lets_root_in_alone(machine: Machine) -> None:
    machine.context = "default"
    machine.has("docker", "k3s")
    machine.says(root=False)
    machine.has_node(socket.gethostname(), "k3s", version="v1.33.5+k3s1", address="127.0.0.1")
    machine.refuses("the k3s on this machine does not answer (ctr: failed to dial", "permission denied", "as root")


@pytest.mark.long
def test_k3s_on_several_machines(machine: Machine) -> None:
    machine.context = "default"
    machine.has("docker", "k3s")
    machine.has_node("one", "k3s", version="v1.33.5+k3s1", address="127.0.0.1")
    machine.has_node("two", version="v1.33.5+k3s1", address="192.0.2.11")
    machine.refuses("image_registry: this k3s has 2 nodes, and this machine can bring an image to its own alone.")


@pytest.mark.long
def test_k3s_elsewhere(machine: Machine) -> None:
    machine.context = "default"
    machine.has("docker")
    machine.has_node("one", version="v1.33.5+k3s1")
    machine.refuses("image_registry: this cluster (context default) takes no images from this machine.")


@pytest.mark.long
def test_docker_desktop(machine: Machine) -> None:
    """What its engine built is there; what was built before stays, for the cluster has no other."""
    machine.context = "docker-desktop"
    machine.has("docker")
    machine.has_node("docker-desktop")
    went_well, seen = machine.run()
    assert went_well, seen
    assert [line.split()[1] for line in machine.commands()] == ["build"]
    went_well, seen = machine.run(image_build_args={"OTHER": "1"})
    assert went_well, seen
    assert len([name for name in (machine.state / "store").read_text().split() if "sha-" in name]) == 2
    went_well, seen = machine.run()
    assert went_well, seen
    assert "changed=0" in seen


def test_docker_desktop_and_another_builder(machine: Machine) -> None:
    machine.context = "docker-desktop"
    machine.has("docker")
    machine.has_node("docker-desktop")
    machine.refuses(
        "image_builder: Docker Desktop runs the images of its own docker, and docker must build them: `docker info`"
        " must work, and image_builder be auto or docker",
        image_builder="podman",
    )


@pytest.mark.long
def test_a_cluster_that_takes_no_images(machine: Machine) -> None:
    machine.context = "production"
    machine.has("docker")
    machine.has_node("one")
    machine.refuses(
        "image_registry: this cluster (context production) takes no images from this machine. Name a registry that this"
        " machine can push to and the cluster can pull from, or bring your own images (django_image,"
        " image_postgres_reference)."
    )
    machine.refuses("image_registry: is empty, and image_delivery is registry.", image_delivery="registry")


@pytest.mark.long
@pytest.mark.parametrize(("kind", "node"), [("kind", "dev-control-plane"), ("k3d", "k3d-dev-server-0")])
def test_a_context_with_another_name(machine: Machine, kind: str, node: str) -> None:
    """The nodes tell what kind and k3d call their cluster."""
    machine.context = "local"
    machine.has("docker", kind)
    machine.has_node(node)
    went_well, seen = machine.run(image_delivery=kind)
    assert went_well, seen
    reference(seen, machine.on(node))


@pytest.mark.long
def test_a_registry_always_wins(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    went_well, seen = machine.run(image_registry="registry.example.org:5000/team")
    assert went_well, seen
    assert [line.split()[1] for line in machine.commands()] == ["build", "push"]
    assert machine.on("dev-control-plane") == []


@pytest.mark.long
def test_an_account_that_may_not_list_nodes(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.cluster.status = 403
    machine.refuses(
        "image_registry: the user of context kind-dev may not list the nodes, which have to take the images."
    )
    went_well, seen = machine.run(image_registry="registry.example.org/team")
    assert went_well, seen
    assert "image_platform: the nodes could not be asked for theirs, so the images are for linux/amd64" in seen


@pytest.mark.long
def test_no_cluster_answers(machine: Machine) -> None:
    """Whoever only builds and pushes, as a CI does, needs none."""
    machine.has("docker", "kind")
    machine.cluster.server.shutdown()
    machine.cluster.server.server_close()
    machine.refuses("No cluster answers at http://127.0.0.1", "Connection refused")
    went_well, seen = machine.run(image_registry="registry.example.org/team")
    assert went_well, seen


# --- the platform --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_nodes_have_another_platform(machine: Machine) -> None:
    """From Apple Silicon to a cluster in a cloud: built for the nodes, and called otherwise than what is not."""
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane", architecture="amd64")
    went_well, seen = machine.run()
    assert went_well, seen
    machine.says(platform="linux/arm64")
    (machine.state / "nodes" / "dev-control-plane").write_text("")
    (machine.state / "store").write_text(f"{PYTHON}\n{POSTGRES}\n{NGINX}\n")
    went_well, seen = machine.run()
    assert went_well, seen
    builds = [line for line in machine.commands() if line.startswith("docker build")]
    assert "--platform" not in builds[0]
    assert "--platform=linux/amd64" in builds[1]
    # The same image, wherever it is built.
    assert builds[0].split()[3] == builds[1].split()[3]
    machine.cluster.nodes = [node("dev-control-plane", architecture="arm64")]
    went_well, seen = machine.run()
    assert went_well, seen
    build = machine.commands()[-3]
    assert "--platform" not in build
    assert build.split()[3] != builds[0].split()[3]


@pytest.mark.long
def test_nodes_of_several_platforms(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    machine.has_node("dev-worker", architecture="arm64")
    machine.refuses(
        "image_platform: the cluster's nodes are linux/amd64 and linux/arm64, and an image is for one of them."
    )
    # Nodes tell no variant.
    went_well, seen = machine.run(image_platform="linux/arm64/v8")
    assert went_well, seen
    assert "--platform=linux/arm64/v8 " in machine.commands()[0]


@pytest.mark.long
def test_a_control_plane_of_another_platform_runs_no_site(machine: Machine) -> None:
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane", taints=[taint])
    machine.has_node("dev-worker", architecture="arm64")
    machine.has_node("dev-windows", system="windows")
    went_well, seen = machine.run()
    assert went_well, seen
    assert "--platform=linux/arm64" in machine.commands()[0]


@pytest.mark.parametrize(
    ("platform", "sentence"),
    [
        (
            "linux/arm64",
            "image_platform: is linux/arm64, and the cluster's nodes are linux/amd64, which cannot run it.",
        ),
        ("arm64", "image_platform: 'arm64' must be linux and an architecture, such as linux/amd64 or linux/arm64"),
    ],
)
def test_a_platform_that_no_node_has(machine: Machine, platform: str, sentence: str) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    machine.refuses(sentence, image_platform=platform)


def test_debian_packages_make_no_foreign_base(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane", architecture="arm64" if os.uname().machine == "x86_64" else "amd64")
    machine.refuses(
        "image_source: base images from Debian packages can be made only for this machine's own platform",
        image_source="debian",
    )


@pytest.mark.long
def test_nothing_here_runs_foreign_programs(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane", architecture="arm64")
    machine.says(build="exec /bin/sh: exec format error")
    went_well, seen = machine.run()
    assert not went_well
    assert "image_platform: this machine cannot run programs for linux/arm64, as a build for it does. Install" in seen


# --- nothing to build ----------------------------------------------------------------------------------------


def test_ready_images_need_no_builder(machine: Machine) -> None:
    """Nor a cluster."""
    machine.cluster.status = 500
    went_well, seen = machine.run(django_image="registry.example.org/site:7")
    assert went_well, seen
    assert "changed=0" in seen
    went_well, seen = machine.run(
        django_image="registry.example.org/site:7",
        image_postgres_reference="registry.example.org/postgres:17",
        image_source="auto",
    )
    assert went_well, seen
    assert "changed=0" in seen


def test_a_ready_image_and_no_builder(machine: Machine) -> None:
    """PostgreSQL's is the registry's then, and what it lacks is said, though nobody asked for it."""
    machine.context = "production"
    machine.has_node("one")
    went_well, seen = machine.run(django_image="registry.example.org/site:7", image_source="auto")
    assert went_well, seen
    assert "changed=0" in seen
    assert f"PostgreSQL is {POSTGRES}, which the cluster pulls itself. It lacks age, pgBackRest and rclone" in seen
    assert "does not start anew where it was killed while it made its first database" in seen


@pytest.mark.long
def test_a_web_image_and_no_builder(machine: Machine) -> None:
    machine.has_node("dev-control-plane")
    machine.refuses(
        "Building the images needs buildah",
        "With django_image nothing is built",
        image_registry="registry.example.org/team",
    )


# --- the official image of PostgreSQL ------------------------------------------------------------------------


@pytest.mark.long
def test_the_official_image_has_no_archive(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    sentence = f"postgres_archive: needs pgbackrest, which {POSTGRES}, the official image of PostgreSQL, has not."
    machine.refuses(sentence, postgres_archive=True)
    machine.refuses(
        sentence,
        postgres_archive=True,
        image_source="auto",
        django_image="registry.example.org/site:7",
        image_builder="podman",
    )
    for own in (
        {"image_base_postgres": "registry.example.org/postgres-archive:17"},
        {"image_postgres_reference": "registry.example.org/postgres:17"},
    ):
        went_well, seen = machine.run(postgres_archive=True, django_image="registry.example.org/site:7", **own)
        assert went_well, seen


@pytest.mark.long
def test_the_official_image_has_no_rclone(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    s3 = {"postgres_backup_s3_endpoint": "https://s3.example.org", "postgres_backup_s3_bucket": "bucket"}
    machine.refuses(
        "postgres_backup_s3_endpoint: needs rclone, which",
        "Set postgres_backup_s3_image, such as docker.io/rclone/rclone:1.71",
        **s3,
    )
    went_well, seen = machine.run(postgres_backup_s3_image="docker.io/rclone/rclone:1.71", **s3)
    assert went_well, seen


@pytest.mark.long
def test_the_official_image_has_no_age(machine: Machine) -> None:
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    key = "age13gtwkv7hfgck4cyhnlq5yuy6shyzsg989nzjkya644j2xt8juuysduqqm2"
    machine.refuses("postgres_backup_recipients: needs age, which", "Set it to []", postgres_backup_recipients=[key])
    went_well, seen = machine.run(postgres_backup_recipients=[])
    assert went_well, seen


# --- the registry --------------------------------------------------------------------------------------------


def test_the_registry_refuses_a_push(machine: Machine) -> None:
    """Its own words are shown, and what to do: see test_image_references.py for the others."""
    machine.has("docker")
    machine.has_node("one")
    refusal = "unauthorized: authentication required"
    machine.says(refusal=refusal)
    went_well, seen = machine.run(image_registry="registry.example.org:5000/team")
    assert not went_well
    cure = "registry.example.org:5000 wants a login, or another one, and `docker login registry.example.org:5000`"
    for sentence in (refusal, "image_registry: registry.example.org:5000/team/kubernetes-django:sha-", cure):
        assert sentence in seen, seen


def test_a_base_image_cannot_be_had(machine: Machine) -> None:
    """The reason is the registry's own, and the cure that of the reason."""
    machine.has("docker", "kind")
    machine.has_node("dev-control-plane")
    base = "registry.example.org/python:3.13"
    machine.refuses(
        f"image_base_python: {base} cannot be had within 10 s (no such manifest: {base})", image_base_python=base
    )
    machine.says(refusal="unauthorized: authentication required")
    machine.refuses(
        f"image_base_python: {base} cannot be had within 10 s (unauthorized: authentication required).",
        "`docker login registry.example.org`",
        image_base_python=base,
    )
