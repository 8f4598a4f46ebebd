"""One JSON object a line, for Django, gunicorn and everything else in the process."""

from __future__ import annotations

import json
import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")


class JsonFormatter(logging.Formatter):
    """Format a record as JSON: time, level, logger, message, pod, and the request's id within a request.

    Fields given as `extra={"fields": {…}}` are added as they are.
    """

    pod = os.environ.get("POD_NAME", "")

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback goes into `exception`, never onto lines of its own."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self.pod:
            entry["pod"] = self.pod
        if current := request_id.get():
            entry["request_id"] = current
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)
