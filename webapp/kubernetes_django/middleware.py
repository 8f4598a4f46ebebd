"""What every request gets but the probes: an id, a log line, a count, security headers, and the host check."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from kubernetes_django import logs
from status import metrics

log = logging.getLogger("request")
Handler = Callable[[HttpRequest], HttpResponse]


def client_of(request: HttpRequest) -> str:
    """The address that a request comes from.

    Each proxy adds the address that it saw to X-Forwarded-For; what stands before those of the trusted ones is what
    anybody may have written.
    """
    seen = request.headers.get("X-Forwarded-For", "").split(",")
    if 0 < settings.TRUSTED_PROXIES <= len(seen):
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(seen[-settings.TRUSTED_PROXIES].strip()))
    # A server that listens on both families tells an IPv4 address so.
    return request.META.get("REMOTE_ADDR", "").removeprefix("::ffff:")


class RequestMiddleware:
    """Name the request, then log and count it.

    An id that a proxy in front gave as X-Request-ID is kept when it looks like one.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9._-]{8,64}", given) else uuid.uuid4().hex
        token = logs.request_id.set(request_id)
        start = time.perf_counter()
        try:
            response = self.get_response(request)
            seconds = time.perf_counter() - start
            response["X-Request-ID"] = request_id
            # Path without query: that may hold what no log should.
            fields = {
                "client": client_of(request),
                "method": request.method,
                "path": request.path[:200],
                "status": response.status_code,
                "duration_ms": round(seconds * 1000, 1),
            }
            level = logging.ERROR if response.status_code >= 500 else logging.INFO
            log.log(level, "%s %s", request.method, fields["path"], extra={"fields": fields})
            metrics.count(request, response, seconds)
            return response
        finally:
            logs.request_id.reset(token)


class HeadersMiddleware:
    """The headers for which Django 5.2 has no setting."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        response.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return response


class HostMiddleware:
    """Refuse foreign hosts at once. Django asks only when something needs the host; static files do not."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.get_host()  # raises DisallowedHost, which Django answers with 400
        return self.get_response(request)
