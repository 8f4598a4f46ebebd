"""Django's PostgreSQL backend, in which every wait for the database ends.

libpq's `connect_timeout` covers neither the name look-up nor a server that accepts and says nothing, and
nothing in it covers a server that stops answering in mid-connection (a frozen disk: packets are acknowledged,
answers never come). So the web process waits itself, through psycopg2's wait callback, with a limit:

- connecting, name look-up included, and the health check of an old connection: POSTGRES_CONNECT_TIMEOUT seconds;
- a statement: POSTGRES_STATEMENT_TIMEOUT, at which the server ends it, and one second on top;
- less inside `with deadline(seconds):`.

And waits do not add up: after one that ended without an answer, new connections fail at once for a moment, then one
is tried while the others go on failing. Otherwise every thread would soon wait, and /livez behind them.

A connection that gets no answer to its very first packet is begun anew, several times within the limit: packets to a
database pod that is gone are dropped, and the kernel's table of connections sends a repeated packet to where the first
one went, even when the Service has a new pod by then.

The price: psycopg2 has no COPY while a wait callback is set. Management commands do not set it.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import psycopg2
import psycopg2.extensions
from django.conf import settings

# Seconds. A wait that a deadline had left less for says nothing of the database: this process was late itself.
TELLING = 0.25
_deadline: ContextVar[float | None] = ContextVar("database_deadline", default=None)
# Seconds for the first answer of a server that is connected to.
_handshake: ContextVar[float | None] = ContextVar("database_handshake", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """All waits for the database inside end together, `seconds` from now; never later than one around this."""
    token = _deadline.set(time.monotonic() + remaining(seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining(limit: float) -> float:
    """Seconds that a wait may take: `limit`, or what the surrounding `deadline` leaves."""
    end = _deadline.get()
    return limit if end is None else max(0.0, min(limit, end - time.monotonic()))


@contextmanager
def handshake(seconds: float) -> Iterator[None]:
    """Connecting inside raises HandshakeTimeout when the server's host has not answered at all after `seconds`."""
    token = _handshake.set(seconds)
    try:
        yield
    finally:
        _handshake.reset(token)


class DatabaseTimeout(psycopg2.OperationalError):
    """The database did not answer in time. Django turns it into its own OperationalError."""


class HandshakeTimeout(DatabaseTimeout):
    """Nobody answered at all, and it is not too late to try again."""


class Breaker:
    """Knows that the database did not answer a moment ago."""

    PAUSE = 0.25  # seconds until connecting is tried again, by one at a time
    FORGET = 5.0  # seconds after which nothing is known any more

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Nothing is known against the database."""
        self._error: DatabaseTimeout | None = None
        self._tripped_at = 0.0
        self._trying = False

    def trip(self, error: DatabaseTimeout) -> DatabaseTimeout:
        """The database did not answer."""
        with self._lock:
            self._error, self._tripped_at = error, time.monotonic()
        return error

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around connecting. Raises the last error again when now is not the time for another attempt."""
        with self._lock:
            age = time.monotonic() - self._tripped_at
            if self._error and age < self.FORGET and (self._trying or age < self.PAUSE):
                raise DatabaseTimeout(str(self._error))
            self._trying = True
        try:
            yield
            self._error = None
        finally:
            self._trying = False


breaker = Breaker()


def bound_waits() -> None:
    """From now on, no wait for the database in this process is without end."""
    psycopg2.extensions.set_wait_callback(_wait)


def _wait(connection: psycopg2.extensions.connection) -> None:
    """Wait until libpq is done. psycopg2 calls this for connecting and for every statement."""
    connecting = connection.status == psycopg2.extensions.STATUS_SETUP
    limit = settings.POSTGRES_CONNECT_TIMEOUT if connecting else settings.POSTGRES_STATEMENT_TIMEOUT + 1
    limit = remaining(limit)
    end = time.monotonic() + limit
    first = _handshake.get() if connecting else None
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        poll = select.poll()
        poll.register(
            connection.fileno(),
            select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT,
        )
        left = max(0.0, end - time.monotonic())
        if not poll.poll(min(left, left if first is None else first) * 1000):
            # psycopg2 closes the connection of a callback that raises.
            if first is not None and first < left:
                raise HandshakeTimeout("connecting: no answer")
            what = "connecting" if connecting else "a statement"
            error = DatabaseTimeout(f"{what} timed out: no answer within {limit:.1f} s")
            raise breaker.trip(error) if limit >= TELLING else error
        first = None
