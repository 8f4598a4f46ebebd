"""Root file systems of Debian with systemd, for containers that stand for machines; made once, into the cache.

They belong to the tests: a user's minikube fetches its base image from a registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import programs

from engines.packages import CACHE

HERE = Path(__file__).resolve().parent
MINIKUBE = programs.ROOT / "roles" / "minikube" / "files" / "minikube"
SYSTEMD = ("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "ca-certificates", "sudo")
# What minikube's own base image has of Debian, and containerd with what it runs from Debian as well.
KICBASE = ("conntrack", "iptables", "ethtool", "socat", "util-linux", "mount", "ebtables", "libseccomp2", "pigz")
KICBASE += ("bash", "curl", "rsync", "nfs-common", "iputils-ping", "netcat-openbsd", "lz4", "gnupg", "openssh-server")
KICBASE += ("dnsutils", "containerd", "runc", "containernetworking-plugins")

# What somebody has who runs this project on a Debian server of theirs.
HOST = ("python3-venv", "make", "git", "curl")

# Makes an image of one, which stands for a machine.
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
# So systemd knows that it runs in a container, and this is the signal at which it shuts down.
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT {start}
"""


def root_file_system(name: str, packages: tuple[str, ...], setup: Path | None = None, **environment: str) -> Path:
    """Make a root file system of Debian packages, or find it made; return the folder in which it is `rootfs.tar`.

    Args:
        name: of the folder.
        packages: beside Debian's minimal system.
        setup: a program that completes it, given its root.
        environment: variables for that program.
    """
    content = json.dumps(packages) + (setup.read_text() if setup else "") + json.dumps(environment)
    folder = CACHE / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not (folder / "rootfs.tar").exists():
        for old in CACHE.glob(f"{name}-*"):
            shutil.rmtree(old)
        folder.mkdir()
        print(f"-- Making {name} from Debian packages: a minute or two", flush=True)
        command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
        command += [f"--customize-hook={setup}"] if setup else []
        subprocess.run([*command, "bookworm", folder / "part.tar"], env=os.environ | environment, check=True)
        (folder / "part.tar").rename(folder / "rootfs.tar")
    return folder


def kicbase(crictl: Path) -> Path:
    """The base image of minikube's drivers docker and podman, in its folder.

    Args:
        crictl: the program, which Debian does not have.
    """
    go = programs.find_go()
    download = [go, "mod", "download", "-json", "k8s.io/minikube"]
    environment = os.environ | {"GOFLAGS": "", "GOWORK": "off"}
    done = subprocess.run(download, cwd=MINIKUBE, env=environment, check=True, capture_output=True)
    recipe = Path(json.loads(done.stdout)["Dir"], "deploy", "kicbase")
    setup = {"setup": HERE / "kicbase" / "setup.sh", "RECIPE": str(recipe), "CRICTL": str(crictl)}
    folder = root_file_system("kicbase", SYSTEMD + KICBASE, **setup)
    # The recipe's own entrypoint prepares the node: its cgroups, its name server.
    (folder / "Dockerfile").write_text(DOCKERFILE.format(start='["/usr/local/bin/entrypoint", "/sbin/init"]'))
    return folder


def host() -> Path:
    """A Debian with systemd on which somebody may run this project, in its folder."""
    folder = root_file_system("host", SYSTEMD + HOST)
    (folder / "Dockerfile").write_text(DOCKERFILE.format(start='["/sbin/init"]'))
    return folder
