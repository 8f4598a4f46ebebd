"""/metrics: requests, counted by every worker, and the facts of the status page, looked up when asked."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from status import checks

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_requests = CollectorRegistry()
_count = Counter(
    "http_requests", "Requests answered, probes excluded.", ["method", "route", "status"], registry=_requests
)
_seconds = Histogram(
    "http_request_duration_seconds",
    "Time to answer.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=_requests,
)


def count(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """Count a request. Labels have few values: a route is a pattern of the URLs, not a path."""
    match = request.resolver_match
    route = f"/{match.route}" if match else "other"
    method = request.method if request.method in _METHODS else "other"
    _count.labels(method, route, response.status_code).inc()
    _seconds.labels(route).observe(seconds)


class _Facts:
    """A snapshot as metrics."""

    def __init__(self, snapshot: checks.Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield what is known; what the database did not tell is left out, not zero."""
        snapshot = self.snapshot

        def gauge(name: str, text: str, value: float, unit: str = "") -> Metric:
            return GaugeMetricFamily(f"site_{name}", text, value=value, unit=unit)

        yield gauge("up", "1 unless the status is down.", snapshot.state != "down")
        yield gauge("degraded", "1 while the status is degraded.", snapshot.state == "degraded")
        if database := snapshot.database:
            yield gauge("database_query_seconds", "Time of the page's query.", database.query_ms / 1000, "seconds")
            yield gauge("database_writable", "1 when the database takes writes.", not database.read_only)
            yield gauge("database_size_bytes", "Size of the database.", database.size_bytes, "bytes")
            yield gauge("database_connections_used", "Connections to the server.", database.connections_used)
            yield gauge("database_connections_allowed", "Connections for users.", database.connections_allowed)
            yield gauge(
                "database_start_time_seconds", "When the server started.", database.started_at.timestamp(), "seconds"
            )
        if migrations := snapshot.migrations:
            yield gauge("migrations_applied", "Migrations of this release, applied.", migrations.applied)
            yield gauge("migrations_pending", "Migrations of this release, pending.", len(migrations.pending))
            yield gauge("migrations_unknown", "Applied ones unknown to this release.", len(migrations.unknown))
        if backup := snapshot.backup:
            wrong = {problem.code for problem in snapshot.problems}
            overdue = bool(wrong & {"failed_backup", "no_backup", "old_backup", "unknown_backup"})
            yield gauge("backup_failed", "1 when the last backup failed, or none was made in time.", overdue)
            undrilled = bool(wrong & {"failed_drill", "old_drill"})
            yield gauge("drill_failed", "1 when the last drill failed, or none passed in time.", undrilled)
            if moment := backup.finished_at:
                yield gauge("backup_time_seconds", "When the last backup ended.", moment.timestamp(), "seconds")
            if moment := backup.drill_finished_at:
                yield gauge("drill_time_seconds", "When the last drill passed.", moment.timestamp(), "seconds")
        if settings.STATUS_DETAILS:
            runtime = snapshot.runtime
            yield InfoMetricFamily(
                "site_release",
                "What runs.",
                value={
                    "release": runtime.release,
                    "revision": runtime.revision,
                    "django": runtime.django,
                    "python": runtime.python,
                },
            )


def exposition() -> bytes:
    """Everything, in OpenMetrics."""
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.MultiProcessCollector(registry)
    else:
        registry.register(_requests)
    registry.register(_Facts(checks.look()))
    return generate_latest(registry)


CONTENT_TYPE = CONTENT_TYPE_LATEST
