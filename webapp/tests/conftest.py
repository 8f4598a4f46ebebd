"""One PostgreSQL for all tests, a database of its own for each, and Django set up in this process."""

from __future__ import annotations

import itertools
import os
import sys

import pytest
import servers

os.environ.update(
    servers.clean_env(
        {
            "DJANGO_SETTINGS_MODULE": "kubernetes_django.settings",
            "POSTGRES_USER": "app",
            "POSTGRES_PASSWORD": servers.PASSWORD,
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(servers.free_port()),
            "DJANGO_SECRET_KEY": servers.SECRET_KEY,
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "RELEASE": "v2",
            "POD_NAME": "kubernetes-django-7d9f-abcde",
        }
    )
)
sys.path.insert(0, str(servers.WEBAPP))

import django
from django.db import connection

django.setup()

from kubernetes_django import bounded_postgresql  # noqa: E402 (needs Django)

bounded_postgresql.bound_waits()  # as in wsgi.py
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives headless Chromium")
    config.addinivalue_line("markers", "slow: waits for real time-outs to pass")


@pytest.fixture(scope="session", autouse=True)
def static_files():
    """What the image is built with."""
    servers.manage("collectstatic", "--noinput", "-v0", env={"DJANGO_BUILD": "true"})


@pytest.fixture(scope="session")
def postgres():
    server = servers.Postgres(int(os.environ["POSTGRES_PORT"]))
    yield server
    server.remove()


@pytest.fixture
def database(postgres, monkeypatch):
    """A migrated database of this test's own; Django in this process uses it. Its name."""
    name = f"test_{next(_numbers)}"
    postgres.create(name, template="migrated")
    monkeypatch.setitem(connection.settings_dict, "NAME", name)
    connection.close()
    bounded_postgresql.breaker.reset()
    yield name
    connection.close()
    postgres.drop(name)


@pytest.fixture
def setting(monkeypatch):
    """Change how Django in this process reaches the database."""

    def change(**values):
        connection.close()
        for name, value in values.items():
            monkeypatch.setitem(connection.settings_dict, name, value)

    yield change
    connection.close()


@pytest.fixture(scope="module")
def site(postgres):
    """Gunicorn on a migrated database of its own; `site.network` is the way between them."""
    name = f"site_{next(_numbers)}"
    postgres.create(name, template="migrated")
    network = servers.Network(postgres.port)
    env = postgres.app_env(name, network.port) | {"DJANGO_NOTES_WRITABLE": "true", "POD_NAME": "web-0"}
    running = servers.Site(env)
    running.network, running.database = network, name
    with running:
        yield running
    network.cut()
    postgres.drop(name)
