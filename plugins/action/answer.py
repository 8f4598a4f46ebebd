"""Requests a URL until it answers, within a bound.

Arguments:
    url: what to request.
    status: the HTTP statuses that count as an answer.
    timeout: seconds until it counts as a failure.

Returns:
    status: the one that came.

In a plugin: ansible.builtin.uri starts a process for it, a tenth of a second deploy's time.
"""

from __future__ import annotations

import http.client
import time
from typing import Any
from urllib.parse import urlsplit

from ansible.plugins.action import ActionBase

REQUEST_SECONDS = 5
PAUSE_SECONDS = 0.3


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("url", "status", "timeout"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        end = time.monotonic() + float(args["timeout"])
        while True:
            status, said = request(args["url"])
            if status in args["status"]:
                return result | {"changed": False, "status": status}
            if time.monotonic() >= end:
                return result | {
                    "failed": True,
                    "msg": f"{args['url']} does not answer as it should within {args['timeout']} s: {said}",
                }
            time.sleep(PAUSE_SECONDS)


def request(url: str) -> tuple[int, str]:
    """One GET, redirects not followed.

    Returns:
        the status (0 without an answer), and what there is to say about it.
    """
    place = urlsplit(url)
    make = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = make(place.hostname, place.port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", place.path or "/")
        answer = connection.getresponse()
        beginning = answer.read(300).decode(errors="replace").strip()
        return answer.status, f"HTTP {answer.status} {answer.reason}: {beginning}"
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()
