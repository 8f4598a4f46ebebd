"""Real servers for the tests: PostgreSQL from the machine's programs, gunicorn, and a network that can fail."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

WEBAPP = Path(__file__).resolve().parent.parent
# Seconds. Our limits come to less than two, those of the kernel to two minutes; a busy machine adds some of its own.
BOUND = 10
SECRET_KEY = "test-key-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
# With everything that a careless interpolation would trip over.
PASSWORD = "pl4nted'secret\"/:@%20 #{{x}}$HOME\\"
OWNER_PASSWORD = "owner-pl4nted-secret"
BOSS_PASSWORD = "boss-pl4nted-secret"


def free_port() -> int:
    """A port that nobody listens on, and that no connection gets meanwhile: seconds pass before it is used."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", random.randrange(20_000, 30_000)))
            return probe.getsockname()[1]


class Postgres:
    """A throw-away PostgreSQL with the roles of a deploy: `boss` (superuser), `owner` (schema), `app` (rows)."""

    def __init__(self, port: int) -> None:
        self.port = port
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
        if not found:
            raise RuntimeError("PostgreSQL's programs are missing: apt-get install postgresql")
        self.programs = found[-1].parent
        # The server refuses to run as root; Debian's package has made this user.
        self.become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        # In memory where that can be had: copying a database for each test then takes 0.03 s, not 0.4 s.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="webapp-tests-pg-", dir=memory))
        self.data = self.directory / "data"
        password_file = self.directory / "password"
        password_file.write_text(BOSS_PASSWORD)
        if self.become:
            user = pwd.getpwnam("postgres")
            for path in (self.directory, password_file):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._run("initdb", "-U", "boss", "--auth=scram-sha-256", f"--pwfile={password_file}", "-N", "--locale=C.UTF-8")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "max_connections = 40\nfsync = off\ndynamic_shared_memory_type = mmap\nlog_line_prefix = '%d %u '\n"
            )
        self.start()
        self.sql(
            f"CREATE ROLE owner LOGIN PASSWORD '{OWNER_PASSWORD}'; CREATE ROLE app LOGIN PASSWORD {quoted(PASSWORD)}"
        )
        self.create("empty")
        self.create("migrated")
        manage("migrate_locked", "-v0", env=self.owner_env("migrated"))

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.become, str(self.programs / program), "-D", str(self.data), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}{self.log()}")

    def start(self) -> None:
        # pg_ctl's child keeps inherited pipes open, so the log goes to a file.
        command = [*self.become, str(self.programs / "pg_ctl"), "-D", str(self.data), "-w"]
        done = subprocess.run(
            [*command, "-l", str(self.directory / "log"), "start"], cwd="/", stdout=subprocess.DEVNULL
        )
        if done.returncode:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def remove(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.directory)

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def connect(self, database: str = "postgres", user: str = "boss", password: str = BOSS_PASSWORD):
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=user,
            password=password,
            sslmode="disable",
            options="-c default_transaction_read_only=off",
        )
        connection.autocommit = True
        return connection

    def sql(self, statement: str, database: str = "postgres", user: str = "boss", password: str = BOSS_PASSWORD):
        with contextlib.closing(self.connect(database, user, password)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def create(self, name: str, template: str = "template0") -> None:
        self.sql(f"CREATE DATABASE {name} OWNER owner TEMPLATE {template}")
        if template == "template0":
            self.sql(
                "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app;"
                "ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO app;",
                name,
                "owner",
                OWNER_PASSWORD,
            )
            self.sql("REVOKE CREATE ON SCHEMA public FROM public; GRANT ALL ON SCHEMA public TO owner", name)

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def app_env(self, database: str, port: int | None = None) -> dict[str, str]:
        """The environment of the web process: it may change rows, not the schema."""
        return {
            "POSTGRES_USER": "app",
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(port or self.port),
            "POSTGRES_DB": database,
            "DJANGO_SECRET_KEY": SECRET_KEY,
        }

    def owner_env(self, database: str) -> dict[str, str]:
        """The environment of the migration Job."""
        return self.app_env(database) | {"POSTGRES_USER": "owner", "POSTGRES_PASSWORD": OWNER_PASSWORD}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def clean_env(env: dict[str, str]) -> dict[str, str]:
    """`env` and nothing of this process's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | env


def manage(*arguments: str, env: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run manage.py as a user would."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=WEBAPP,
        env=clean_env(env),
        check=check,
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str
    seconds: float

    def json(self) -> dict:
        return json.loads(self.text)


class Door:
    """What answers requests at `port`."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(
        self,
        path: str = "/",
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: str | None = None,
        client: str = "127.0.0.1",
    ) -> Answer:
        """Ask, from the address `client`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(client, 0))
        start = time.monotonic()
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            text = response.read().decode()
        return Answer(response.status, response.headers, text, time.monotonic() - start)


@dataclass
class Site(Door):
    """gunicorn with the project, as in the image."""

    env: dict[str, str]
    port: int = field(default_factory=free_port)
    command: tuple[str, ...] = (
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "gunicorn.conf.py",
        "kubernetes_django.wsgi",
    )
    folder: Path = WEBAPP
    process: subprocess.Popen | None = None
    log_path: Path = field(default_factory=lambda: Path(tempfile.mkstemp(prefix="webapp-tests-log-")[1]))

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=clean_env({"PORT": str(self.port)} | self.env),
            stdout=self.log_path.open("w"),
            stderr=subprocess.STDOUT,
        )
        for _ in range(200):
            with contextlib.suppress(OSError):
                if self.get("/livez").status == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"gunicorn did not start:\n{self.log_path.read_text()}")

    def __enter__(self) -> Site:
        try:
            self.start()
        except RuntimeError:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
        self.log_path.unlink()

    def log(self) -> list[dict]:
        """Every line of the log. All of it is JSON."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return sorted(int(pid) for pid in children.split())


class Network:
    """The way from a site to its database: a TCP relay that can be cut, swallow packets, or be slow."""

    LOGIN = 4  # packets from the server until a statement can be sent

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0  # seconds for each of the server's packets, once logged in
        self.swallow = False  # take everything, pass nothing on
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port = free_port()
        self.mend()

    def mend(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self._listener,), daemon=True).start()

    def accept(self, listener: socket.socket) -> None:
        """Pass on every connection that comes to `listener`."""
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                self._pairs.append((client, server))
                threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        answers = 0
        with contextlib.suppress(OSError, ValueError), client, server:
            while True:
                for source in select.select([client, server], [], [], 0.2)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if self.swallow:
                        continue
                    if source is server:
                        answers += 1
                        time.sleep(self.delay if answers > self.LOGIN else 0)
                    (client if source is server else server).sendall(data)

    def cut(self) -> None:
        """Refuse connections and end those that there are."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def black_hole(until: Network | None = None) -> Iterator[int]:
    """A port whose packets vanish: its queue of connections is full, so the kernel drops what comes.

    With `until`, that network takes the connections from 0.2 s after the block began.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.1)
        if until:
            opening = threading.Timer(0.2, until.accept, [listener])
            opening.daemon = True
            opening.start()
        yield listener.getsockname()[1]
