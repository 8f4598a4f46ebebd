"""gunicorn: how many workers and threads, and how it stops. gunicorn reads the names below by itself."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import gunicorn
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from kubernetes_django.environment import Environment


def cores(limit: str) -> float:
    """CPU cores from CPU_LIMIT: `2`, `0.5`, `500m`, or plain millicores (a number from 100 up)."""
    number = float(limit.removesuffix("m"))
    return number / 1000 if limit.endswith("m") or number >= 100 else number


env = Environment()
limit = env.text("CPU_LIMIT", "1")
if not re.fullmatch(r"\d+(\.\d+)?|\d+m", limit) or cores(limit) <= 0:
    env.problem("CPU_LIMIT is malformed: it must be cores such as 2 or 0.5, or millicores such as 500m.")
    limit = "1"

# All addresses, of both families where the kernel has IPv6.
_every = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 (a pod's own network)  # nosec B104
bind = f"{_every}:{env.number('PORT', 8000, 1, 65535)}"
worker_class = "gthread"  # slow clients are the business of the proxy in front
# One process keeps one core busy (Python's lock); a second one serves on when the first is replaced.
workers = env.number("WEB_CONCURRENCY", min(max(2, math.ceil(cores(limit))), 16), 1, 64)
# Threads wait for the database side by side. Each keeps a connection: workers times threads a pod.
threads = env.number("GUNICORN_THREADS", 4, 1, 64)
# Less than the pod's grace period less its preStop sleep, or the kubelet ends what is still being answered.
graceful_timeout = env.number("GUNICORN_GRACEFUL_TIMEOUT", 20, 1, 3600)
timeout = 60
keepalive = 75  # longer than the usual proxy keeps an idle connection, so that gunicorn is not the one to close

preload_app = True  # wrong settings end the master, not worker after worker
control_socket_disable = True  # it needs a writable home directory
_memory = "/dev/shm"  # noqa: S108 (in a container it is the pod's own)  # nosec B108
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None  # the workers' heartbeats, never on a disk

accesslog = None  # kubernetes_django.middleware logs requests, with their ids and without probes
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "kubernetes_django.logs.JsonFormatter"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "root": {"handlers": ["stdout"], "level": "INFO"},
    "loggers": {"gunicorn.error": {"handlers": [], "level": "INFO", "propagate": True}},
}

# Workers count into files here, and whichever is asked adds them up. prometheus_client reads the variable on import.
metrics_dir = Path(env.text("METRICS_DIR", tempfile.gettempdir())) / f"metrics-{bind.rpartition(':')[2]}"
env.finish()
gunicorn.SERVER = "gunicorn"  # the version is nobody's business
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)


def on_starting(server: Arbiter) -> None:
    """Forget the counts of an earlier start: volumes outlive the container."""
    shutil.rmtree(metrics_dir, ignore_errors=True)
    metrics_dir.mkdir(parents=True)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """A worker is gone: its counts stay, its gauges go."""
    from prometheus_client import multiprocess  # not earlier: PROMETHEUS_MULTIPROC_DIR is read on import

    multiprocess.mark_process_dead(worker.pid)
