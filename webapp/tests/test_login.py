"""Passwords that are tried out: on several pods, from several addresses, by somebody who wants the admin kept out."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Iterator

import pytest
import servers

PASSWORD = "the-right-1234"


@pytest.fixture(scope="module")
def pods(postgres: servers.Postgres) -> Iterator[tuple[servers.Site, servers.Site]]:
    """Two gunicorns on one database, each behind a proxy that says where a client is; there is one admin."""
    postgres.create("logins", template="migrated")
    env = postgres.app_env("logins") | {"DJANGO_TRUSTED_PROXIES": "1"}
    create = ("createsuperuser", "--noinput", "--username=admin", "--email=a@example.org")
    servers.manage(*create, env=env | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD})
    with servers.Site(env) as first, servers.Site(env) as second:
        yield first, second
    postgres.drop("logins")


def login(pod: servers.Site, client: str, password: str, name: str = "admin") -> servers.Answer:
    """Log in to the admin as a browser does."""
    page = pod.get("/admin/login/", {"X-Forwarded-For": client})
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = urllib.parse.urlencode({"username": name, "password": password, "csrfmiddlewaretoken": token})
    headers = {
        "X-Forwarded-For": client,
        "Cookie": page.headers["Set-Cookie"].partition(";")[0],
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return pod.get("/admin/login/?next=/admin/", headers, "POST", form)


def test_a_stranger_waits_and_the_admin_does_not(pods: tuple[servers.Site, servers.Site]) -> None:
    first, second = pods
    guesses = [login(pod, "192.0.2.1", f"guess {number}").status for number in range(2) for pod in pods]
    assert guesses == [200] * 4
    assert login(first, "192.0.2.1", "guess 5").status == http.client.TOO_MANY_REQUESTS
    # Whichever pod is asked, and be it the right one now.
    refused = login(second, "192.0.2.1", PASSWORD)
    assert refused.status == http.client.TOO_MANY_REQUESTS
    assert "Account locked: too many login attempts. Please try again later." in refused.text
    # The admin's own address, and other names at the stranger's.
    assert login(second, "192.0.2.2", PASSWORD).status == http.client.FOUND
    assert login(second, "192.0.2.1", "guess", "other").status == http.client.OK


def test_what_comes_in_the_meantime_makes_it_no_longer_and_is_not_kept(
    pods: tuple[servers.Site, servers.Site], postgres: servers.Postgres
) -> None:
    """After five minutes the address may try again, however busy the stranger there was."""
    first, second = pods

    def kept() -> list[tuple]:
        return postgres.sql("SELECT * FROM axes_accessattempt WHERE username = 'x' ORDER BY id", "logins")

    for number in range(5):
        login(first, "192.0.2.3", f"guess {number}", "x")
    before = kept()
    assert login(second, "192.0.2.3", "again", "x").status == http.client.TOO_MANY_REQUESTS
    assert kept() == before
    postgres.sql("UPDATE axes_accessattempt SET attempt_time = attempt_time - interval '301 seconds'", "logins")
    assert login(first, "192.0.2.3", "again", "x").status == http.client.OK
    # Nor does the table grow for ever: who tries next takes out what is over.
    assert postgres.sql("SELECT count(*) FROM axes_accessattempt", "logins") == [(1,)]


def test_own_mistakes_are_forgotten_by_a_login(pods: tuple[servers.Site, servers.Site]) -> None:
    for _ in range(2):
        assert [login(pods[0], "192.0.2.4", "typo").status for _ in range(4)] == [http.client.OK] * 4
        assert login(pods[0], "192.0.2.4", PASSWORD).status == http.client.FOUND
