"""Says what the images are called, what is wrong, and what has to be done.

Its argument: the role's variables without their prefix, as JSON. What it prints, as JSON:
    references: of the images; the tag of one that is built is a hash of its content.
    problems: sentences for people; nothing can be done until they are solved.
    notes: sentences for people, of what was decided.
    packages: Debian packages to install before asking again.
    steps: label and arguments for step.py, in order; none when all is there.
    and what the steps need to know.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import builders
import clusters
import content
from clusters import Cluster, ClusterError, Registry

BASES = Path(__file__).resolve().parent / "bases"
# What building takes at its peak is half of it.
BUILD_MB = 2000
# Used as they are: from a registry it is the cluster that pulls them.
PULLED = {"nginx", "postgres"}


def plan(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the plan for the role's `variables`."""
    result: dict[str, Any] = {"variables": variables, "problems": [], "packages": [], "steps": [], "notes": []}
    wanted = wanted_images(variables)
    if problems := variable_problems(variables):
        return result | {"problems": problems}
    if not wanted:
        return result | {"source": "registry", "references": references(variables, "registry")}
    builder, source = None, known_source(variables)
    if not source:
        builder = find_builder(variables)
        source, result["notes"] = choose_source(variables, builder, wanted)
    result |= {"source": source}
    if problems := official_problems(variables, source):
        return result | {"problems": problems}
    if source == "registry" and set(wanted) <= PULLED:
        # The cluster pulls them: nobody needs to know what its nodes are, or what this machine can build.
        return result | {"references": references(variables, source)}
    asked = variables["platform"]
    variables["platform"], problems = choose_platform(variables, source)
    if problems:
        return result | {"problems": problems}
    result["references"] = references(variables, source)
    try:
        cluster = clusters.find(variables)
        missing = missing_images(variables, source, result["references"], cluster, None)
        if not missing:
            return result
        # Something is to be built: from here on, seconds do not matter.
        builder = builder or find_builder(variables, cluster)
        if builder and isinstance(cluster, Registry):
            missing = missing_images(variables, source, result["references"], cluster, builder)
    except ClusterError as error:
        return result | {"problems": [str(error)]}
    if not asked and not variables["nodes"].get("platforms"):
        result["notes"].append(
            f"image_platform: the nodes could not be asked for theirs, so the images are for {variables['platform']},"
            " this machine's own. Set it where the nodes are others"
        )
    return result | building(variables, source, missing, builder, cluster)


def building(
    variables: dict[str, Any],
    source: str,
    missing: list[str],
    builder: builders.Builder | None,
    cluster: Registry | Cluster,
) -> dict[str, Any]:
    """Return what the plan says of building the images that are `missing`, with `builder`, for `cluster`."""
    needed, problems = packages(variables, source, builder, cluster)
    if not builder or needed or problems:
        return {"packages": needed, "problems": problems}
    other = variables["platform"] != builder.builds_for()
    return {
        "problems": disk_problems(variables) + (registry_problems(variables, builder) if source == "registry" else []),
        "builder": {
            "kind": builder.kind,
            "environment": builder.environment,
            "platform": variables["platform"] if other else "",
        },
        "root_file_systems": {name: root_file_system(name, variables) for name in ("python", *PULLED)},
        "steps": steps(source, missing),
    }


# --- what is decided -----------------------------------------------------------------------------------------


def known_source(variables: dict[str, Any]) -> str:
    """Return where the bases come from, or nothing where `auto` has still to be decided.

    What `auto` came to last time counts: a site does not change its bases because a registry is away for a moment.
    """
    decided = Path(variables["cache"], "source")
    if variables["source"] != "auto":
        return variables["source"]
    return decided.read_text() if decided.exists() else ""


def choose_source(
    variables: dict[str, Any], builder: builders.Builder | None, wanted: list[str]
) -> tuple[str, list[str]]:
    """Return where the bases of the images that are `wanted` come from, and what there is to say about it."""
    only_pulled = set(wanted) <= PULLED
    base = variables[f"base_{wanted[0]}" if only_pulled else "base_python"]
    if builder and (builder.has(base) or not builder.registry_lacks(base)):
        # Kept; step.py keeps the other answer, once it has proved right.
        content.write(Path(variables["cache"], "source"), "registry")
        return "registry", official_notes(variables, wanted)
    if only_pulled and not (builder and can_install()):
        return "registry", official_notes(variables, wanted)
    return "debian", []


def official_notes(variables: dict[str, Any], wanted: list[str]) -> list[str]:
    """Return what the official image of PostgreSQL has not, where the site is to run it."""
    base = variables["base_postgres"]
    if "postgres" not in wanted or not is_official(base):
        return []
    return [
        f"PostgreSQL is {base}, which the cluster pulls itself. It lacks age, pgBackRest and rclone, which encrypted"
        " backups, postgres_archive and backups to S3 need, and does not start anew where it was killed while it made"
        " its first database: see docs/images.md"
    ]


def choose_platform(variables: dict[str, Any], source: str) -> tuple[str, list[str]]:
    """Return the platform of the images: image_platform, that of the nodes, or this machine's; and what is wrong."""
    wanted, nodes = variables["platform"], variables["nodes"].get("platforms") or []
    named = " and ".join(nodes)
    if not wanted and len(nodes) > 1:
        return "", [
            f"image_platform: the cluster's nodes are {named}, and an image is for one of them. Name one, and keep the"
            " site's pods on such nodes, or bring images for all of them (django_image, image_postgres_reference)"
        ]
    if wanted and nodes and architecture(wanted) not in nodes:
        return "", [
            f"image_platform: is {wanted}, and the cluster's nodes are {named}, which cannot run it. Leave it empty,"
            " for an image that fits the nodes"
        ]
    chosen = wanted or (nodes or [builders.here()])[0]
    if source == "debian" and architecture(chosen) != builders.here():
        return "", [
            f"image_source: base images from Debian packages can be made only for this machine's own platform,"
            f" {builders.here()}, and the cluster needs {chosen}. Set image_source to registry, or run this on"
            f" a {chosen} machine"
        ]
    return chosen, []


def architecture(platform: str) -> str:
    """Return a platform without its variant, which nodes do not tell: linux/arm64 of linux/arm64/v8."""
    return "/".join(platform.split("/")[:2])


def find_builder(variables: dict[str, Any], cluster: Registry | Cluster | None = None) -> builders.Builder | None:
    """Return the program that builds, for `cluster` where it can run the images of one alone."""
    only = getattr(cluster, "builder", "")
    return builders.find(only if only and variables["builder"] == "auto" else variables["builder"])


# --- what is wanted ------------------------------------------------------------------------------------------


def references(variables: dict[str, Any], source: str) -> dict[str, str]:
    """Return the references of the images django, postgres, nginx and python, the bases of which come from `source`."""
    prefix = f"{variables['registry'] or 'localhost'}/{variables['name']}"
    if source == "debian":
        python = f"localhost/{variables['name']}-python:{debian_tag('python', variables)}"
        pulled = {name: f"{prefix}-{name}:{debian_tag(name, variables)}" for name in PULLED}
    else:
        python, pulled = variables["base_python"], {name: variables[f"base_{name}"] for name in PULLED}
    if not (django := variables["django_reference"]):
        context = Path(variables["context"])
        hashed = content.digest(
            context,
            content.files_of(context),
            base=python,
            arguments=variables["build_args"],
            platform=variables["platform"],
        )
        django = f"{prefix}:sha-{hashed}"  # a tag of digits alone would be a number in YAML
    own = {name: variables[f"{name}_reference"] or reference for name, reference in pulled.items()}
    return own | {"django": django, "python": python}


def wanted_images(variables: dict[str, Any]) -> list[str]:
    """Return those of postgres, nginx and django that are needed and that the user does not bring."""
    needed = ["postgres", *(["nginx"] if variables["with_nginx"] else []), "django"]
    return [name for name in needed if not variables[f"{name}_reference"]]


def version(name: str, variables: dict[str, Any]) -> str:
    """Return the version of Python, nginx or PostgreSQL in a base image."""
    return {"python": "3.13", "nginx": "1.26"}.get(name) or str(variables["postgres_major"])


def debian_tag(name: str, variables: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """Return the version of the base image `name`, and a hash of all that it is made from."""
    files = [f"{name}/{file}" for file in content.files_of(BASES / name) if file not in without]
    hashed = content.digest(
        BASES,
        [name for name in ("debian.sh", "strip.sh", "sbom.py") if name not in without] + files,
        version=version(name, variables),
        platform=variables["platform"],
        refresh=variables["debian_refresh"],
    )
    return f"{version(name, variables)}-{hashed}"


def root_file_system(name: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Return the command that makes the packages' part of a base image, and the file's name in the cache."""
    tag = debian_tag(name, variables, without=("Dockerfile", "docker-entrypoint.sh", "sbom.py"))
    return {"context": str(BASES / name), "file": f"{name}-{tag}.tar", "version": version(name, variables)}


def missing_images(
    variables: dict[str, Any],
    source: str,
    names: dict[str, str],
    cluster: Registry | Cluster,
    builder: builders.Builder | None,
) -> list[str]:
    """Return those of the images that must get into the cluster: neither the user's own nor a registry's.

    A registry is asked only if there is a `builder` to ask with. Raises ClusterError.
    """
    wanted = [name for name in wanted_images(variables) if source != "registry" or name not in PULLED]
    asked = [names[name] for name in wanted]
    present = cluster.has(asked, builder) if isinstance(cluster, Registry) else cluster.has(asked)
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
    bases, own = ("base_python", "base_postgres", "base_nginx"), ("django", "postgres", "nginx")
    for name in (*bases, *(f"{name}_reference" for name in own)):
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
    if variables["delivery"] == "registry" and not variables["registry"]:
        problems.append("image_registry: is empty, and image_delivery is registry. Name the registry to push to")
    if variables["platform"] and not re.fullmatch(r"linux/[a-z0-9]+(/v\d+)?", variables["platform"]):
        problems.append(
            f"image_platform: {variables['platform']!r} must be linux and an architecture, such as linux/amd64 or"
            " linux/arm64; empty takes that of the cluster's nodes"
        )
    if not variables["django_reference"] and not Path(variables["context"], "Dockerfile").is_file():
        problems.append(f"image_context: there is no Dockerfile in {variables['context']}")
    return problems


def is_official(reference: str) -> bool:
    """Return whether an image is the official PostgreSQL's, or a mirror's copy of it."""
    return re.match(r"((.*/)?library/|docker\.io/)?postgres[:@]", reference) is not None


def official_problems(variables: dict[str, Any], source: str) -> list[str]:
    """Return what the site wants of PostgreSQL's image and the official one has not."""
    base = variables["base_postgres"]
    if source != "registry" or variables["postgres_reference"] or not is_official(base):
        return []
    cures = {
        "age": ("postgres_backup_recipients", "Set it to []"),
        "pgbackrest": ("postgres_archive", "Set postgres_archive to false"),
        "rclone": ("postgres_backup_s3_endpoint", "Set postgres_backup_s3_image, such as docker.io/rclone/rclone:1.71"),
    }
    return [
        f"{cures[program][0]}: needs {program}, which {base}, the official image of PostgreSQL, has not."
        f" {cures[program][1]}; or name an image that has it (image_postgres_reference), or have one made from Debian"
        " packages (image_source: debian, as root on Debian)"
        for program in variables["postgres_programs"]
    ]


def can_install() -> bool:
    """Return whether Debian packages can be installed here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def packages(
    variables: dict[str, Any], source: str, builder: builders.Builder | None, cluster: Registry | Cluster
) -> tuple[list[str], list[str]]:
    """Return the Debian packages that are missing for building, and what is wrong where they cannot be installed."""
    wanted, needed = variables["builder"], []
    only = getattr(cluster, "builder", "")
    if only and (not builder or builder.kind != only):
        return [], [
            f"image_builder: {cluster.name} runs the images of its own {only}, and {only} must build them:"
            f" `{only} info` must work, and image_builder be auto or {only}"
        ]
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
    if needed and not can_install():
        return [], [
            f"Building the images needs {' and '.join(needed)}: on Debian, run `apt-get install"
            f" {' '.join(needed)}` as root (a playbook run as root does it by itself). docker or podman, with a"
            " container registry that answers, will do as well. With django_image nothing is built"
        ]
    if source == "debian" and os.geteuid() != 0:
        why = "" if variables["source"] == "debian" else f"no registry answers for {variables['base_python']}, and "
        return [], [
            f"image_source: {why}base images from Debian packages can be made only as root. Run the playbook as"
            " root, or set image_base_python and image_base_postgres to images of a registry that answers"
        ]
    return needed, []


def registry_problems(variables: dict[str, Any], builder: builders.Builder) -> list[str]:
    """Return which base images cannot be had from their registry, and why."""
    problems = []
    bases = [("base_python", "django_reference"), ("base_postgres", "postgres_reference")]
    for base, own in bases + [("base_nginx", "nginx_reference")] * variables["with_nginx"]:
        reference = variables[base]
        if variables[own] or builder.has(reference) or not (answer := builder.registry_lacks(reference)):
            continue
        cure = builder.explain(reference, answer) or "Check its name and the network"
        problems.append(
            f"image_{base}: {reference} cannot be had within 10 s ({answer}). {cure}; `{builder.kind} pull {reference}`"
            " must work. Or set image_source to debian"
        )
    return problems


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
