"""/livez and /readyz, in Kubernetes' own format.

/livez does not ask the database: restarting a pod mends no database. /readyz does until the database has answered once,
and with DJANGO_WAIT_FOR_SCHEMA waits for the migrations of its own code. Those it does not know do not matter: or a
rollback would never become ready.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from status.checks import Readiness

_readiness = Readiness()


class ProbeMiddleware:
    """Answers the kubelet, whatever Host header it sends. To be placed first."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/livez":
            return _answer(request, {"ping": True})
        if request.path_info == "/readyz":
            return _answer(request, {"ping": True, "database": _readiness.ready()})
        return self.get_response(request)


def _answer(request: HttpRequest, checks: dict[str, bool]) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    name = request.path_info[1:]
    passed = all(checks.values())
    text = "ok"
    if not passed or "verbose" in request.GET:
        lines = [f"[+]{check} ok" if ok else f"[-]{check} failed: reason withheld" for check, ok in checks.items()]
        text = "\n".join([*lines, f"{name} check {'passed' if passed else 'failed'}", ""])
    response = HttpResponse(text, content_type="text/plain; charset=utf-8", status=200 if passed else 503)
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
