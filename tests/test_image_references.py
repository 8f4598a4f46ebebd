"""Bases are named by a tag or a digest that stands for one thing, and the name reaches the builder as it is."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))
import builders
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


@pytest.mark.parametrize(
    ("refusal", "sentences"),
    [
        (
            'Get "https://registry.example.org:5000/v2/": tls: failed to verify certificate: x509: certificate signed'
            " by unknown authority",
            [
                "docker does not trust the certificate of registry.example.org:5000. Put its CA's certificate, PEM,",
                "/etc/docker/certs.d/registry.example.org:5000/ca.crt on the engine's machine",
            ],
        ),
        (
            "unauthorized: authentication required",
            ["registry.example.org:5000 wants a login, or another one, and `docker login registry.example.org:5000`"],
        ),
        ("denied: requested access to the resource is denied", ["`docker login registry.example.org:5000`"]),
        (
            'Get "https://registry.example.org:5000/v2/": http: server gave HTTP response to HTTPS client',
            ["registry.example.org:5000 speaks no TLS", "insecure-registries in the engine's daemon.json"],
        ),
        (
            'Get "https://registry.example.org:5000/v2/": dial tcp: lookup registry.example.org: no such host',
            ["registry.example.org:5000 does not answer: check its name and the network"],
        ),
    ],
    ids=["certificate", "login", "right", "plain", "name"],
)
def test_refusal_of_a_registry_has_its_cure(refusal: str, sentences: list[str]) -> None:
    cure = builders.Builder("docker").explain("registry.example.org:5000/team/site:1", refusal)
    for sentence in sentences:
        assert sentence in cure
