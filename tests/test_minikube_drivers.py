"""minikube with docker and with podman, as a user and as root: what is chosen, how it is started, what a refusal says.

The engines, sudo, kubectl and minikube are stand-ins, see stand_ins/; the playbooks and the user are real.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project
from machines import Machine, registry

CLUSTER = "playbooks/cluster.yml"
DESTROY = "playbooks/destroy.yml"
# What a user types, with what the role asks for besides.
START = ["start", "--profile=minikube", "--driver=docker", "--wait=apiserver,node_ready,extra", "--wait-timeout=300s"]


NO_EXTERNAL_IPS = "--extra-config=apiserver.enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs"


@pytest.fixture(scope="module")
def registries() -> Iterator[list[str]]:
    """One that answers, as gcr.io and registry.k8s.io do."""
    with registry(401) as address:
        yield [address]


@pytest.fixture
def user(tmp_path: Path, shared_project: Project, registries: list[str]) -> Machine:
    """A machine with docker, whose user is not root."""
    machine = Machine(tmp_path, shared_project)
    machine.variables["__minikube_registries"] = registries
    return machine


@pytest.fixture
def root(tmp_path: Path, shared_project: Project, registries: list[str]) -> Machine:
    """A machine with docker, whose user is root."""
    machine = Machine(tmp_path, shared_project, root=True)
    machine.variables["__minikube_registries"] = registries
    return machine


def with_podman(machine: Machine) -> None:
    """Podman in place of docker."""
    machine.remove("docker")
    machine.add("podman")


def started(machine: Machine) -> list[str]:
    """The arguments of the last `minikube start`, the only one since the calls were forgotten."""
    (call,) = machine.calls("minikube", "start")
    machine.forget_calls()
    return call[2:]


@pytest.mark.long
def test_docker_from_an_empty_home_to_nothing(user: Machine) -> None:
    """The first start, a second run, destroy, destroy again, the stopped node back, and all of it away."""
    user.succeeds(CLUSTER)
    arguments = started(user)
    assert "--driver=docker" in arguments
    assert not {"--force", "--container-runtime=containerd"} & set(arguments)
    assert user.nodes() == {"minikube": {"engine": "docker", "state": "Running"}}
    assert user.contexts() == (["minikube"], "minikube")
    user.succeeds(CLUSTER, changed=False)

    seen = user.succeeds(DESTROY)
    assert "The minikube profile minikube is stopped: its node holds the volumes." in seen
    assert user.nodes()["minikube"]["state"] == "Stopped"
    user.succeeds(DESTROY, changed=False)
    assert len(user.calls("minikube", "stop")) == 1

    user.succeeds(CLUSTER)
    assert "--driver=docker" in started(user)
    user.variables["reset_data"] = True
    user.succeeds(DESTROY)
    assert user.nodes() == {}
    assert not (user.home / ".minikube" / "profiles" / "minikube").exists()
    user.succeeds(DESTROY, changed=False)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_root_is_forced(root: Machine, engine: str) -> None:
    if engine == "podman":
        with_podman(root)
    root.succeeds(CLUSTER)
    assert {f"--driver={engine}", "--force"} <= set(started(root))
    root.succeeds(DESTROY)


@pytest.mark.long
def test_podman_by_sudo(user: Machine) -> None:
    with_podman(user)
    user.succeeds(CLUSTER)
    assert all(call[:3] in (["sudo", "-n", "-k"], ["sudo", "-n", "podman"]) for call in user.calls("sudo"))
    arguments = started(user)
    assert "--driver=podman" in arguments
    assert not {"--force", "--container-runtime=containerd"} & set(arguments)
    user.succeeds(DESTROY)


@pytest.mark.long
def test_podman_by_sudo_that_asks_for_a_password(user: Machine) -> None:
    with_podman(user)
    user.world({"sudo": "password"})
    seen = user.refuses(CLUSTER)
    assert "minikube runs podman by sudo, which asks for a password here: let it run without one" in seen
    assert "or run podman without root: `minikube config set rootless true`" in seen
    # What it says helps.
    user.settings["MINIKUBE_ROOTLESS"] = "true"
    user.succeeds(CLUSTER)
    assert {"--driver=podman", "--container-runtime=containerd"} <= set(started(user))


@pytest.mark.long
def test_podman_without_root_by_minikubes_settings(user: Machine) -> None:
    with_podman(user)
    user.world({"sudo": "password"})
    settings = user.home / ".minikube" / "config" / "config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"rootless": true}')
    user.succeeds(CLUSTER)
    assert not user.calls("sudo")
    assert {"--driver=podman", "--container-runtime=containerd"} <= set(started(user))
    user.succeeds(DESTROY)
    # What the profile was made with, it has.
    user.succeeds(CLUSTER)
    assert "--container-runtime=containerd" not in started(user)


def test_podman_without_root_on_cgroup_1(user: Machine) -> None:
    with_podman(user)
    user.settings["MINIKUBE_ROOTLESS"] = "true"
    user.engine("podman", cgroup="1")
    assert "podman runs without root, for which minikube needs cgroup v2, and this host has v1" in user.refuses(CLUSTER)


def test_docker_without_root(user: Machine) -> None:
    user.engine("docker", rootless=True)
    user.succeeds(CLUSTER)
    assert {"--driver=docker", "--container-runtime=containerd"} <= set(started(user))


@pytest.mark.long
def test_docker_is_not_taken_where_no_root_is_wanted(user: Machine) -> None:
    """An engine that runs as root is of no use to a minikube whose setting is rootless: it would refuse."""
    user.settings["MINIKUBE_ROOTLESS"] = "true"
    seen = user.refuses(CLUSTER)
    assert "docker is of no use: it runs as root, and minikube is told to use no root (setting rootless)" in seen
    assert "`minikube config unset rootless`" in seen
    user.add("podman")
    user.succeeds(CLUSTER)
    assert "--driver=podman" in started(user)


def test_docker_lets_the_user_not_in(user: Machine) -> None:
    user.engine("docker", state="denied")
    seen = user.refuses(CLUSTER)
    assert "docker does not let you in (permission denied while trying to connect to the Docker daemon socket" in seen
    assert "`sudo usermod -aG docker $USER`, then log in anew" in seen


@pytest.mark.parametrize("driver", ["auto", "docker"])
def test_docker_does_not_run(user: Machine, driver: str) -> None:
    user.engine("docker", state="stopped")
    user.variables["minikube_driver"] = driver
    seen = user.refuses(CLUSTER)
    assert "docker does not answer (Cannot connect to the Docker daemon" in seen
    assert "start it, or set another minikube_driver" in seen
    assert ("or run as root on Linux, where minikube_driver=none needs no engine" in seen) == (driver == "auto")


@pytest.mark.long
def test_engine_hangs(user: Machine) -> None:
    """It counts as absent after ten seconds, and leaves no process behind: another engine is taken."""
    user.engine("docker", state="hangs")
    user.add("podman")
    user.succeeds(CLUSTER)
    assert "--driver=podman" in started(user)
    user.remove("podman")
    user.minikube("delete", "--profile=minikube")
    user.forget_calls()
    assert "docker does not answer (no answer within 10 seconds)" in user.fails(CLUSTER)


def ended(file: Path) -> bool:
    """Whether the process whose number is in a file ends within 5 s, taken note of by its parent or not."""
    status = Path("/proc", file.read_text().strip(), "status")
    for _ in range(100):
        try:
            if "State:\tZ" in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_what_is_bounded_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """Where the time is up, and where who waits for it is ended."""
    bounded = str(ROOT / "roles" / "minikube" / "files" / "bounded.py")
    child = tmp_path / "child"
    command = ["sh", "-c", f"sleep 600 & echo $! > {child}; wait"]
    assert subprocess.run([sys.executable, bounded, "1", *command], check=False).returncode == 124
    assert ended(child)

    child.unlink()
    running = subprocess.Popen([sys.executable, bounded, "600", *command])
    while not (child.exists() and child.read_text()):
        time.sleep(0.05)
    running.terminate()
    assert running.wait(60) == 128 + signal.SIGTERM
    assert ended(child)

    assert subprocess.run([sys.executable, bounded, "9", "sh", "-c", "exit 7"], check=False).returncode == 7
    missing = subprocess.run([sys.executable, bounded, "9", "no-such"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr) == (127, "no-such: No such file or directory\n")


@pytest.mark.long
def test_no_engine(user: Machine) -> None:
    user.remove("docker")
    assert "neither docker nor podman is on PATH: install one of them, and minikube" in user.refuses(CLUSTER)
    user.variables["minikube_driver"] = "podman"
    assert "no podman is on PATH: install it, or set another minikube_driver" in user.refuses(CLUSTER)


@pytest.mark.long
@pytest.mark.parametrize("who", ["user", "root"])
def test_registries_are_away(who: str, request: pytest.FixtureRequest) -> None:
    machine = request.getfixturevalue(who)
    with registry(503) as broken:
        machine.variables["__minikube_registries"] = [broken]
        seen = machine.refuses(CLUSTER)
    assert "a container engine answers, but gcr.io or registry.k8s.io does not: minikube has nowhere to fetch" in seen
    # Who names a driver has the images, or a mirror of them.
    machine.variables["minikube_driver"] = "docker"
    machine.succeeds(CLUSTER)


@pytest.mark.long
@pytest.mark.parametrize("driver", ["auto", "docker"])
def test_minikube_or_kubectl_is_missing(user: Machine, driver: str) -> None:
    user.variables["minikube_driver"] = driver
    user.remove("minikube", "kubectl")
    seen = user.refuses(CLUSTER)
    assert "no minikube is on PATH: install it (https://minikube.sigs.k8s.io/docs/start)" in seen
    assert ("no kubectl is on PATH: install it (https://kubernetes.io/docs/tasks/tools)" in seen) == (
        driver == "docker"
    )


@pytest.mark.long
def test_engine_is_too_small(root: Machine) -> None:
    """As root minikube would only warn, --force being set, and fail later."""
    root.engine("docker", cpus=1, memory=1024**3)
    seen = root.refuses(CLUSTER)
    assert "docker has 1 CPU, minikube needs 2: give it more" in seen
    assert "docker has 1024 MB of memory, minikube needs 1800: give it more" in seen


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--memory=1000mb", "Exiting due to RSRC_INSUFFICIENT_REQ_MEMORY: Requested memory allocation 1000MiB is less"),
        (
            "--cpus=9",
            "Exiting due to RSRC_INSUFFICIENT_CORES: Requested cpu count 9 is greater than the available cpus",
        ),
    ],
)
def test_minikube_refuses(user: Machine, argument: str, reason: str) -> None:
    """Its own words are shown, once, and destroy forgets the profile that it never made."""
    user.variables["minikube_start_args"] = [argument]
    seen = user.fails(CLUSTER)
    assert "minikube start failed:" in seen
    assert seen.count(reason) == 1
    assert started(user)
    user.succeeds(DESTROY)
    assert not (user.home / ".minikube" / "profiles" / "minikube").exists()


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"state": "stopped"}, 63, "PROVIDER_DOCKER_NOT_RUNNING"),
        ({"state": "denied"}, 69, "PROVIDER_DOCKER_NEWGRP"),
        ({"cpus": 1}, 29, "RSRC_INSUFFICIENT_CORES"),
        ({"memory": 1024**3}, 23, "RSRC_INSUFFICIENT_CONTAINER_MEMORY"),
        ({}, 57, "DRV_AS_ROOT"),
    ],
)
def test_what_is_refused_before_minikube_would_refuse(root: Machine, change: dict, code: int, reason: str) -> None:
    """The stand-in says what minikube itself would have said, had the role not spoken before."""
    root.engine("docker", **change)
    done = root.run(str(root.programs / "minikube"), *START)
    assert (done.returncode, f"X Exiting due to {reason}: " in done.stderr) == (code, True), done.stderr


@pytest.mark.long
def test_engine_is_away(user: Machine) -> None:
    """While a node is to be stopped, and before it is to be started again."""
    user.succeeds(CLUSTER)
    user.engine("docker", state="stopped")
    seen = user.fails(DESTROY)
    assert "minikube stop failed:" in seen
    assert "Exiting due to GUEST_STOP_TIMEOUT: Unable to stop VM" in seen
    user.engine("docker")
    user.succeeds(DESTROY)
    user.engine("docker", state="stopped")
    user.forget_calls()
    assert "docker does not answer (Cannot connect to the Docker daemon" in user.fails(CLUSTER)
    assert not user.calls("minikube")
    user.succeeds(DESTROY, changed=False)


def test_profile_of_another_driver(user: Machine) -> None:
    """One that is there has its driver, whatever else answers; another one is refused."""
    user.minikube(*START)
    user.world({"nodes": {"minikube": {"engine": "docker", "state": "Stopped"}}})
    user.variables["minikube_driver"] = "podman"
    user.add("podman")
    seen = user.fails(CLUSTER)
    assert "the profile minikube was made with the driver docker: set minikube_driver=docker, or delete it with" in seen
    user.variables["minikube_driver"] = "auto"
    user.forget_calls()
    user.succeeds(CLUSTER)
    assert "--driver=docker" in started(user)


@pytest.mark.long
def test_start_takes_too_long(user: Machine) -> None:
    """It is ended, with all that it started, and what it said last is shown."""
    user.world({"minikube": "hangs"})
    user.variables["minikube_start_timeout"] = 5
    seen = user.fails(CLUSTER)
    assert "minikube start failed to end within 5 s (minikube_start_timeout):" in seen
    assert "* Pulling base image v0.0.50 ..." in seen


@pytest.mark.long
def test_half_made_profile(user: Machine) -> None:
    """What a start left that failed half-way is started again, and destroy takes it away."""
    user.world({"minikube": "fails"})
    seen = user.fails(CLUSTER)
    assert "Exiting due to GUEST_PROVISION: error provisioning guest: Failed to start host" in seen
    assert "`minikube logs -p minikube` shows what the node says." in seen
    # Nothing of it runs: nothing is stopped, and what is there stays until the data may go.
    user.succeeds(DESTROY, changed=False)
    user.succeeds(CLUSTER)
    user.variables["reset_data"] = True
    user.succeeds(DESTROY)


@pytest.mark.long
def test_profile_file_that_is_cut_off(user: Machine) -> None:
    user.succeeds(CLUSTER)
    user.world({"nodes": {}})
    (user.home / ".minikube" / "profiles" / "minikube" / "config.json").write_text('{"Name": "minikube", "Dri')
    seen = user.fails(CLUSTER)
    assert "Exiting due to HOST_CONFIG_LOAD: Unable to load config: unexpected end of JSON input" in seen
    assert "`minikube delete -p minikube` deletes the node and the volumes in it; the next run makes it anew." in seen
    user.variables["reset_data"] = True
    user.succeeds(DESTROY)
    assert not (user.home / ".minikube" / "profiles" / "minikube").exists()


def test_users_own_minikube_stays(user: Machine) -> None:
    """One that the user made, also in the place of one that was made here: the mark went with the old one."""
    user.succeeds(CLUSTER)
    user.minikube("delete", "--profile=minikube")
    user.minikube(*START)
    user.succeeds(CLUSTER, changed=False)
    user.variables["reset_data"] = True
    assert "was not made here and stays" in user.succeeds(DESTROY, changed=False)
    assert user.nodes()["minikube"]["state"] == "Running"


def test_external_ips_are_denied_by_a_cluster_made_here(user: Machine) -> None:
    """From its first start on, and at each later one; a profile that was made without it is not configured anew."""
    user.succeeds(CLUSTER)
    assert NO_EXTERNAL_IPS in started(user)
    user.minikube("stop", "--profile=minikube")
    user.succeeds(CLUSTER)
    assert NO_EXTERNAL_IPS in started(user)

    user.minikube("delete", "--profile=minikube")
    user.minikube(*START)
    user.minikube("stop", "--profile=minikube")
    user.forget_calls()
    user.succeeds(CLUSTER)
    assert NO_EXTERNAL_IPS not in started(user)


def kubeconfig(file: Path, *contexts: str, current: str = "") -> Path:
    """A kubeconfig with these contexts, as kubectl writes one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    named = "".join(f"\n- context: {{}}\n  name: {name}" for name in contexts) or " []"
    file.write_text(f"apiVersion: v1\ncontexts:{named}\ncurrent-context: {current or json.dumps('')}\nkind: Config\n")
    return file


@pytest.mark.long
def test_several_kubeconfigs(user: Machine) -> None:
    """They are read as kubectl reads them, minikube writes to the first, and the current context stays."""
    first = kubeconfig(user.home / "first", "one")
    second = kubeconfig(user.home / "second", "work", current="work")
    user.settings["KUBECONFIG"] = f"{first}:{second}:{user.home / 'not-there'}"
    user.succeeds(CLUSTER)
    assert "--keep-context" in started(user)
    assert user.contexts(first) == (["one", "minikube"], "")
    assert user.contexts(second) == (["work"], "work")
    # Found in whichever file has it.
    user.settings["KUBECONFIG"] = f"{second}:{first}"
    user.succeeds(CLUSTER, changed=False)
    # minikube takes the current context for a profile that is there already; it is put back.
    user.world({"nodes": {"minikube": {"engine": "docker", "state": "Stopped"}}})
    user.settings["KUBECONFIG"] = f"{first}:{second}"
    user.succeeds(CLUSTER)
    assert ["kubectl", "config", "use-context", "work"] in user.calls("kubectl")
    assert user.contexts(first)[1] == "work"


@pytest.mark.long
def test_several_kubeconfigs_below_a_home(user: Machine) -> None:
    """Of minikube, too: by MINIKUBE_HOME."""
    kubeconfig(user.home / "second", "work", current="work")
    user.variables["cluster_kubeconfig"] = "~/first:~/second"
    user.settings["MINIKUBE_HOME"] = str(user.home / "elsewhere")
    user.succeeds(CLUSTER)
    assert user.contexts(user.home / "first")[0] == ["minikube"]
    assert (user.home / "elsewhere" / ".minikube" / "profiles" / "minikube" / "config.json").exists()
    user.succeeds(DESTROY)


@pytest.fixture
def ubuntu(root: Machine) -> Machine:
    """A machine without an engine, where the driver none would be installed; whatever happens, no build succeeds."""
    root.remove("docker")
    root.add("apt-get", "mmdebstrap")
    root.world({"apt": ["debian-archive-keyring"], "debian": ["http://debian.example.org/debian"]})
    keys = root.folder / "debian-archive-keyring.gpg"
    root.variables |= {
        "__minikube_debian_keys": str(keys),
        "__minikube_packages_to_run": [],
        "__minikube_packages_to_build": [f"{keys}:debian-archive-keyring"],
        "__minikube_build_disk_mb": 0,
        "__minikube_build_memory_mb": 0,
        "__minikube_go_fits": True,
        "__minikube_go_path": "/nonexistent",
    }
    return root


def test_driver_none_where_debians_keys_are_not_to_be_had(ubuntu: Machine) -> None:
    ubuntu.world({"apt": []})
    seen = ubuntu.refuses(CLUSTER)
    assert "apt-get cannot install debian-archive-keyring: E: Unable to locate package debian-archive-keyring" in seen


@pytest.mark.long
def test_driver_none_where_no_debian_answers(ubuntu: Machine) -> None:
    """It shows before the first build, with the cure; a mirror that answers is used, with Debian's own keys."""
    ubuntu.world({"debian": []})
    seen = ubuntu.fails(CLUSTER)
    assert "Debian 13, from which the images are made, cannot be fetched:" in seen
    assert "E: Failed to fetch http://debian.example.org/debian/dists/trixie/InRelease Could not connect" in seen
    assert "Set minikube_debian_mirror to a mirror of Debian that this host reaches. Nothing was built." in seen
    assert ubuntu.calls("apt-get", "-o", "DPkg::Lock::Timeout=300", "install")[-1][-1] == "debian-archive-keyring"

    ubuntu.world({"debian": ["http://mirror.example.org/debian"]})
    ubuntu.variables["image_debian_mirror"] = "http://mirror.example.org/debian"
    assert "cannot be fetched" not in ubuntu.fails(CLUSTER)
    call = ubuntu.calls("mmdebstrap")[-1]
    assert f"--keyring={ubuntu.variables['__minikube_debian_keys']}" in call
    assert call[-1] == "http://mirror.example.org/debian"
