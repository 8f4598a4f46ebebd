"""The process that answers: release, versions, place, age."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

import django
import psycopg2
from django.conf import settings


@dataclass(frozen=True)
class Runtime:
    """What does not change while the process lives. Empty text: not told."""

    release: str
    revision: str
    pod: str
    node: str
    namespace: str
    python: str
    django: str
    psycopg: str
    gunicorn: str
    started_at: datetime


_STARTED_AT = datetime.now(UTC)


@cache
def runtime() -> Runtime:
    """Facts of this process."""
    return Runtime(
        **settings.RUNTIME,
        python=platform.python_version(),
        django=django.get_version(),
        psycopg=psycopg2.__version__.split()[0],
        gunicorn=version("gunicorn"),
        started_at=_STARTED_AT,
    )
