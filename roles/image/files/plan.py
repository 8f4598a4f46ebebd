"""Says what the images are called, what is wrong, and what has to be done.

Its argument: the role's variables without their prefix, as JSON. What it prints, as JSON:
    references: of the images; the tag of one that is built is a hash of its content.
    problems: sentences for people; nothing can be done until they are solved.
    packages: Debian packages to install before asking again.
    steps: label and arguments for step.py, in order; none when all is there.
    and what the steps need to know.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import builders
import content
from clusters import ClusterError, Minikube, Registry

BASES = Path(__file__).resolve().parents[3] / "images"
# What building takes at its peak is half of it.
BUILD_MB = 2000


def plan(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the plan for the role's `variables`."""
    result: dict[str, Any] = {"variables": variables, "problems": [], "packages": [], "steps": []}
    if problems := variable_problems(variables):
        return result | {"problems": problems}
    if variables["django_reference"] and variables["postgres_reference"]:
        return result | {"references": references(variables, "registry")}
    # What `auto` came to last time counts: a site does not change its bases because a registry is away for a moment.
    decided = Path(variables["cache"], "source")
    source = variables["source"]
    if source == "auto":
        source = decided.read_text() if decided.exists() else ""
    builder, missing = None, []
    try:
        if source:
            result |= {"source": source, "references": references(variables, source)}
            missing = missing_images(variables, source, result["references"], None)
            if not missing:
                return result
        # Something is to be built: from here on, seconds do not matter.
        builder = builders.find(variables["builder"])
        if not source:
            python = variables["base_python"]
            answers = builder and (builder.has(python) or builder.registry_has(python))
            source = "registry" if answers else "debian"
            if answers:
                content.write(decided, source)  # step.py writes the other answer, once it has proved right
            result |= {"source": source, "references": references(variables, source)}
        if builder:
            missing = missing_images(variables, source, result["references"], builder)
    except ClusterError as error:
        return result | {"problems": [str(error)]}
    result["packages"], result["problems"] = packages(variables, source, builder)
    if not builder or result["packages"] or result["problems"]:
        return result
    return result | {
        "problems": disk_problems(variables) + (registry_problems(variables, builder) if source == "registry" else []),
        "builder": {"kind": builder.kind, "environment": builder.environment},
        "root_file_systems": {name: root_file_system(name, variables) for name in ("python", "postgres")},
        "steps": steps(source, missing),
    }


# --- what is wanted ------------------------------------------------------------------------------------------


def references(variables: dict[str, Any], source: str) -> dict[str, str]:
    """Return the references of the images django, postgres and python, where the bases come from `source`."""
    prefix = f"{variables['registry'] or 'localhost'}/{variables['name']}"
    if source == "debian":
        python, postgres = f"localhost/{variables['name']}-python", f"{prefix}-postgres"
        python += ":" + debian_tag("python", variables)
        postgres += ":" + debian_tag("postgres", variables)
    else:
        python, postgres = variables["base_python"], variables["base_postgres"]
    if not (django := variables["django_reference"]):
        context = Path(variables["context"])
        hashed = content.digest(
            context,
            content.files_of(context),
            base=python,
            arguments=variables["build_args"],
            machine=platform.machine(),
        )
        django = f"{prefix}:sha-{hashed}"  # a tag of digits alone would be a number in YAML
    return {"django": django, "postgres": variables["postgres_reference"] or postgres, "python": python}


def version(name: str, variables: dict[str, Any]) -> str:
    """Return the version of Python or PostgreSQL in a base image."""
    return "3.13" if name == "python" else str(variables["postgres_major"])


def debian_tag(name: str, variables: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """Return the version of the base image `name`, and a hash of all that it is made from."""
    files = [f"{name}/{file}" for file in content.files_of(BASES / name) if file not in without]
    hashed = content.digest(
        BASES,
        [name for name in ("debian.sh", "strip.sh", "sbom.py") if name not in without] + files,
        version=version(name, variables),
        machine=platform.machine(),
        refresh=variables["debian_refresh"],
    )
    return f"{version(name, variables)}-{hashed}"


def root_file_system(name: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Return the command that makes the packages' part of a base image, and the file's name in the cache."""
    tag = debian_tag(name, variables, without=("Dockerfile", "docker-entrypoint.sh", "sbom.py"))
    return {"context": str(BASES / name), "file": f"{name}-{tag}.tar", "version": version(name, variables)}


def missing_images(
    variables: dict[str, Any], source: str, names: dict[str, str], builder: builders.Builder | None
) -> list[str]:
    """Return those of django and postgres that must get into the cluster: neither the user's own nor a registry's.

    A registry is asked only if there is a `builder` to ask with. Raises ClusterError.
    """
    wanted = [name for name in ("postgres", "django") if not variables[f"{name}_reference"]]
    if source == "registry" and "postgres" in wanted:
        wanted.remove("postgres")
    if not wanted:
        return []
    if variables["registry"]:
        present = Registry(Path(variables["cache"])).has([names[name] for name in wanted], builder)
    elif variables["minikube_profile"]:
        present = Minikube(variables["minikube"], variables["minikube_profile"]).has([names[name] for name in wanted])
    else:
        raise ClusterError(
            "image_registry: only a minikube takes images without a registry. Name one that this machine"
            " can push to and the cluster can pull from, or bring your own images (django_image)"
        )
    return [name for name in wanted if names[name] not in present]


def steps(source: str, missing: list[str]) -> list[dict[str, Any]]:
    """Return the steps that make and deliver the images that are `missing`."""
    result = []
    for name in missing:
        if source == "debian":
            base = "python" if name == "django" else name
            result.append({"arguments": ["base", base], "label": f"Make the base image {base} from Debian packages"})
        if name == "django":
            result.append({"arguments": ["build", name], "label": "Build the image of the web app"})
        result.append({"arguments": ["deliver", name], "label": f"Bring the image {name} to the cluster"})
    return result


# --- what is wrong -------------------------------------------------------------------------------------------


def variable_problems(variables: dict[str, Any]) -> list[str]:
    """Return what is wrong with values, beyond what an argument spec can tell."""
    problems = []
    pinned = re.compile(r"[a-z0-9][a-z0-9.:_/-]*(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")
    for name in ("base_python", "base_postgres", "django_reference", "postgres_reference"):
        if (value := variables[name]) and not pinned.fullmatch(value):
            problems.append(
                f"image_{name}: {value!r} must be an image with a fixed tag or digest, such as"
                " docker.io/library/python:3.13.12-slim-trixie"
            )
    if variables["registry"] and not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", variables["registry"]):
        problems.append(
            f"image_registry: {variables['registry']!r} must be host, port and path, such as"
            " registry.example.org:5000/team, without a scheme and without a slash at the end"
        )
    if not re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", variables["name"]):
        problems.append(f"image_name: {variables['name']!r} must be lower-case letters and digits, joined by . _ or -")
    if not variables["django_reference"] and not Path(variables["context"], "Dockerfile").is_file():
        problems.append(f"image_context: there is no Dockerfile in {variables['context']}")
    return problems


def packages(variables: dict[str, Any], source: str, builder: builders.Builder | None) -> tuple[list[str], list[str]]:
    """Return the Debian packages that are missing for building, and what is wrong where they cannot be installed."""
    wanted, needed = variables["builder"], []
    if not builder:
        if wanted not in ("auto", "buildah") or shutil.which("buildah"):
            tried = "buildah" if wanted == "auto" else wanted
            return [], [
                f"image_builder: {tried} does not work on this machine, `{tried} info` says why. Mend it, or"
                " choose another one of docker, podman, buildah"
            ]
        needed.append("buildah")
    if source == "debian" and not shutil.which("mmdebstrap"):
        needed.append("mmdebstrap")
    root = os.geteuid() == 0
    if needed and not (root and shutil.which("apt-get")):
        return [], [
            f"Building the images needs {' and '.join(needed)}: on Debian, run `apt-get install"
            f" {' '.join(needed)}` as root (a playbook run as root does it by itself). docker or podman, with a"
            " container registry that answers, will do as well"
        ]
    if source == "debian" and not root:
        why = "" if variables["source"] == "debian" else f"no registry answers for {variables['base_python']}, and "
        return [], [
            f"image_source: {why}base images from Debian packages can be made only as root. Run the playbook as"
            " root, or set image_base_python and image_base_postgres to images of a registry that answers"
        ]
    return needed, []


def registry_problems(variables: dict[str, Any], builder: builders.Builder) -> list[str]:
    """Return which base images no registry has."""
    return [
        f"image_{base}: {variables[base]} cannot be had within 10 s. Check its name and the network"
        f" (`{builder.kind} pull {variables[base]}`), or set image_source to debian"
        for base, own in (("base_python", "django_reference"), ("base_postgres", "postgres_reference"))
        if not variables[own] and not builder.has(variables[base]) and not builder.registry_has(variables[base])
    ]


def disk_problems(variables: dict[str, Any]) -> list[str]:
    """Return which places are too small to build."""
    places = {
        "image_cache": (Path(variables["cache"]), ", or set image_cache to another place"),
        "TMPDIR": (Path(tempfile.gettempdir()), ", or set TMPDIR to another place"),
    }
    if os.geteuid() == 0:
        places["the builder's store"] = (Path("/var/lib"), "")
    problems = []
    for name, (place, cure) in places.items():
        existing = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(existing).free // 1_000_000
        if free < BUILD_MB:
            problems.append(f"{name}: {place} has {free} MB free, building needs {BUILD_MB} MB. Make room there{cure}")
    return problems


if __name__ == "__main__":
    print(json.dumps(plan(json.loads(sys.argv[1]))))
