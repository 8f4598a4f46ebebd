"""Traffic through the site's node port, as its users make it, and what became of each request.

A `Reader` requests a page over and over, a `Writer` posts numbered rows and keeps what was acknowledged. Both run in
threads of their own inside a `with` block, open a new connection for every request, and go to this machine alone:

    with Reader(URL) as reader, Writer(URL) as writer:
        playbook("playbooks/deploy.yml", ...)
    print(reader.figures())
    assert reader.failures == []
    assert writer.lost(rows("notes")) == []

SITE_NODE names a node that a test made in a network of its own, and that may be asked as well.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass


@dataclass
class Request:
    """One request: when it began and how long it took, in seconds, and its status or what went wrong instead."""

    began: float
    seconds: float
    outcome: int | str

    @property
    def ok(self) -> bool:
        """Whether the site answered as it should."""
        return self.outcome in (200, 201)


class Traffic:
    """Requests at a steady rate from a few threads, between `__enter__` and `__exit__`.

    Args:
        url: of the site, without a path; its host must be 127.0.0.1 or SITE_NODE.
        rate: requests a second, of all threads together.
        threads: how many requests may be under way at once.
        timeout: seconds after which a request without an answer has failed.
    """

    def __init__(self, url: str, rate: float, threads: int, timeout: float = 10.0) -> None:
        place = urllib.parse.urlsplit(url)
        ours = ("127.0.0.1", os.environ.get("SITE_NODE"))
        assert place.hostname in ours, f"traffic goes to this machine only, not to {place.hostname}"
        self._place, self._timeout = (place.hostname, place.port), timeout
        self._pause = threads / rate
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.requests: list[Request] = []

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            # A request that took longer than its turn is not made up for: the rate is a limit.
            due = max(due, time.monotonic()) + self._pause
            began = time.monotonic()
            try:
                outcome = self.ask()
            except (OSError, http.client.HTTPException) as error:
                outcome = f"{type(error).__name__}: {error}"
            with self._lock:
                self.requests.append(Request(began, time.monotonic() - began, outcome))

    def ask(self) -> int:
        """Make one request; return its status."""
        raise NotImplementedError

    def connect(self) -> http.client.HTTPConnection:
        """A new connection to the site."""
        return http.client.HTTPConnection(*self._place, timeout=self._timeout)

    def send(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Send a request over a connection of its own; return the answer's status and body."""
        connection = self.connect()
        try:
            headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @property
    def failures(self) -> list[Request]:
        """The requests that were not answered as they should be."""
        return [request for request in self.requests if not request.ok]

    def longest_gap(self) -> float:
        """The longest time, in seconds, between two good answers; before the first and after the last one count too."""
        if not self.requests:
            return 0.0
        answers = sorted(request.began + request.seconds for request in self.requests if request.ok)
        first = min(request.began for request in self.requests)
        last = max(request.began + request.seconds for request in self.requests)
        marks = [first, *answers, last]
        return max(after - before for before, after in itertools.pairwise(marks))

    def figures(self) -> str:
        """What happened, one line."""
        kinds = sorted({str(request.outcome) for request in self.failures})
        slowest = max((request.seconds for request in self.requests), default=0.0)
        return (
            f"{len(self.requests)} requests, {len(self.failures)} failed{f' ({kinds[:3]})' if kinds else ''}, "
            f"longest gap {self.longest_gap():.2f} s, slowest {slowest:.2f} s"
        )


class Reader(Traffic):
    """Requests a page that asks the database."""

    def __init__(self, url: str, path: str = "/", rate: float = 60, threads: int = 4, timeout: float = 10.0) -> None:
        super().__init__(url, rate, threads, timeout)
        self._path = path

    def ask(self) -> int:
        """Request the page."""
        return self.send("GET", self._path)[0]


class Writer(Traffic):
    """Posts numbered rows, and keeps the numbers that were acknowledged."""

    def __init__(self, url: str, rate: float = 20, threads: int = 2, timeout: float = 10.0) -> None:
        super().__init__(url, rate, threads, timeout)
        self._name, self._number = uuid.uuid4().hex[:8], 0
        self.acknowledged: list[str] = []

    def ask(self) -> int:
        """Post the next row."""
        with self._lock:
            self._number += 1
            text = f"{self._name}-{self._number}"
        status, _ = self.send("POST", "/api/notes", json.dumps({"text": text}))
        if status == 201:
            with self._lock:
                self.acknowledged.append(text)
        return status

    def lost(self, rows: set[str]) -> list[str]:
        """The acknowledged rows that are not among the texts that the database has."""
        return [text for text in self.acknowledged if text not in rows]
