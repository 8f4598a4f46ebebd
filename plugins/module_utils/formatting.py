# GNU General Public License v3.0+ (see LICENSE)
"""Figures as people read them."""

from __future__ import annotations

import datetime


def format_size(count: float) -> str:
    """Bytes for people: `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_utc(moment: str) -> str:
    """An ISO 8601 moment as PostgreSQL takes it: `2026-01-31 14:05:00 UTC`."""
    return f"{datetime.datetime.fromisoformat(moment).astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_age(moment: str) -> str:
    """Since an ISO 8601 moment, in the unit that says most: `3 d`, `5 h`, `7 min`."""
    since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(moment)
    minutes = int(since.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
