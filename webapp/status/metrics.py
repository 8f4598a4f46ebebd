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
from status.backup import Backup

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
        yield _gauge("up", "1 unless the status is down.", snapshot.state != "down")
        yield _gauge("degraded", "1 while the status is degraded.", snapshot.state == "degraded")
        if snapshot.database:
            yield from _of_database(snapshot.database)
        if migrations := snapshot.migrations:
            yield _gauge("migrations_applied", "Migrations of this release, applied.", migrations.applied)
            yield _gauge("migrations_pending", "Migrations of this release, pending.", len(migrations.pending))
            yield _gauge("migrations_unknown", "Applied ones unknown to this release.", len(migrations.unknown))
        if snapshot.backup:
            yield from _of_backup(snapshot.backup, {problem.code for problem in snapshot.problems})
        if settings.STATUS_DETAILS:
            names = ("release", "revision", "django", "python")
            value = {name: getattr(snapshot.runtime, name) for name in names}
            yield InfoMetricFamily("site_release", "What runs.", value=value)


def _gauge(name: str, text: str, value: float, unit: str = "") -> Metric:
    return GaugeMetricFamily(f"site_{name}", text, value=value, unit=unit)


def _of_database(database: checks.Database) -> Iterator[Metric]:
    yield _gauge("database_query_seconds", "Time of the page's query.", database.query_ms / 1000, "seconds")
    yield _gauge("database_writable", "1 when the database takes writes.", not database.read_only)
    yield _gauge("database_size_bytes", "Size of the database.", database.size_bytes, "bytes")
    yield _gauge("database_connections_used", "Connections to the server.", database.connections_used)
    yield _gauge("database_connections_allowed", "Connections for users.", database.connections_allowed)
    started = database.started_at.timestamp()
    yield _gauge("database_start_time_seconds", "When the server started.", started, "seconds")


def _of_backup(backup: Backup, wrong: set[str]) -> Iterator[Metric]:
    """`wrong` has the codes of what is wrong."""
    overdue = bool(wrong & {"failed_backup", "no_backup", "old_backup", "unknown_backup"})
    yield _gauge("backup_failed", "1 when the last backup failed, or none was made in time.", overdue)
    undrilled = bool(wrong & {"failed_drill", "old_drill"})
    yield _gauge("drill_failed", "1 when the last drill failed, or none passed in time.", undrilled)
    if moment := backup.finished_at:
        yield _gauge("backup_time_seconds", "When the last backup ended.", moment.timestamp(), "seconds")
    if moment := backup.drill_finished_at:
        yield _gauge("drill_time_seconds", "When the last drill passed.", moment.timestamp(), "seconds")


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
