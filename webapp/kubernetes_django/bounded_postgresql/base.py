"""The backend itself: see the package's docstring."""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from typing import Any

import psycopg2
from django.conf import settings
from django.db.backends.postgresql import base

from kubernetes_django.bounded_postgresql import (
    DatabaseTimeout,
    HandshakeTimeout,
    breaker,
    deadline,
    handshake,
    remaining,
)

# Host -> where it was found last. With the cluster's DNS away for a moment, the database is still where it was; and
# with verify-full nobody else can be taken for it.
_known: dict[str, list[str]] = {}
# Seconds that a look-up may take where an earlier one can stand in for it.
PATIENCE = 0.5

# One thread: while a look-up hangs, the next ones wait in line behind it and give up in time.
_resolver = ThreadPoolExecutor(1, thread_name_prefix="resolve")


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL by psycopg2, with a bounded name look-up and the time that connecting took."""

    ASK_EVERY = 1.0  # seconds
    # Seconds for the first answer, one try after the other; the last one has what is left of the time to connect.
    HANDSHAKES = (0.3, 0.5)
    connect_seconds: float | None = None
    _asked_at = float("-inf")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Raises psycopg2.OperationalError, which Django wraps."""
        start = time.perf_counter()
        with breaker.attempt(), deadline(settings.POSTGRES_CONNECT_TIMEOUT):
            connection = self._connect(_with_addresses(conn_params))
        self.connect_seconds = time.perf_counter() - start
        self._asked_at = time.monotonic()
        return connection

    def _connect(self, params: dict[str, Any]) -> Any:
        for seconds in self.HANDSHAKES:
            with suppress(HandshakeTimeout), handshake(seconds):
                return super().get_new_connection(params)
        return super().get_new_connection(params)

    def is_usable(self) -> bool:
        """The health check of a connection that was used before, at the first query of a request.

        A server that ended the connection has told so: that is seen without asking. Asking as well would be a third of
        the status page's round trips, so it is done once a second, and as quickly as connecting.
        """
        now = time.monotonic()
        if now - self._asked_at < self.ASK_EVERY and not _has_news(self.connection):
            return True
        with deadline(settings.POSTGRES_CONNECT_TIMEOUT):
            usable = super().is_usable()
        if usable:
            self._asked_at = now
        return usable


def _has_news(connection: Any) -> bool:
    """Whether the server has sent something unasked, or is gone."""
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
    except psycopg2.InterfaceError:  # closed
        return True
    return bool(poll.poll(0))


def _with_addresses(params: dict[str, Any]) -> dict[str, Any]:
    """Look the host up here, so that libpq, which cannot stop waiting for that, has nothing to look up."""
    host = params.get("host", "")
    if not host or host.startswith("/") or "," in host or _is_address(host):
        return params
    limit = remaining(PATIENCE if host in _known else settings.POSTGRES_CONNECT_TIMEOUT)
    lookup = _resolver.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        _known[host] = list(dict.fromkeys(entry[4][0] for entry in lookup.result(timeout=limit)))
    except TimeoutError:
        lookup.cancel()
        if host not in _known:
            raise breaker.trip(DatabaseTimeout(f"could not translate host name: no answer in {limit:.1f} s")) from None
    except OSError as error:
        # That there is no such host is an answer, and holds.
        if host not in _known or error.errno != socket.EAI_AGAIN:
            raise DatabaseTimeout(f"could not translate host name: {error.strerror}") from None
    addresses = _known[host]
    return params | {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
