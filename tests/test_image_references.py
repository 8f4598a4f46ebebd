"""Bases are named by a tag or a digest that stands for one thing, and the name reaches the builder as it is."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))
import plan

DIGEST = "sha256:" + "0123456789abcdef" * 4
VARIABLES = {
    "registry": "",
    "name": "kubernetes-django",
    "context": str(ROOT),
    "django_reference": "",
    "postgres_reference": "",
    "nginx_reference": "",
    "with_nginx": True,
    "build_args": {},
    "delivery": "auto",
    "platform": "",
    "base_python": "docker.io/library/python:3.13.12-slim-trixie",
    "base_postgres": "docker.io/library/postgres:17.12-trixie",
    "base_nginx": "docker.io/nginxinc/nginx-unprivileged:1.28.0-alpine3.21",
}


@pytest.mark.parametrize(
    "reference",
    [
        "docker.io/library/python:3.13.12-slim-trixie",
        f"docker.io/library/python@{DIGEST}",
        f"docker.io/library/python:3.13.12-slim-trixie@{DIGEST}",
        f"registry.example.org:5000/mirror/python:3.13@{DIGEST}",
    ],
)
def test_fixed_reference(reference: str) -> None:
    variables = VARIABLES | {"base_python": reference, "base_postgres": reference}
    assert plan.variable_problems(variables) == []
    names = plan.references(variables, "registry")
    assert (names["python"], names["postgres"]) == (reference, reference)
    # Another base is another image.
    assert names["django"] != plan.references(VARIABLES | {"base_python": "other:1"}, "registry")["django"]


@pytest.mark.parametrize(
    "reference", ["python", "python:latest", "python@sha256:short", f"python:latest@{DIGEST[:-1]}", "Python:3.13"]
)
def test_reference_that_may_change(reference: str) -> None:
    (problem,) = plan.variable_problems(VARIABLES | {"base_python": reference})
    assert f"image_base_python: {reference!r} must be an image with a fixed tag or digest" in problem
