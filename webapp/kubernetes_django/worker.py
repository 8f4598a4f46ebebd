"""gunicorn's threads, which no slow client can hold: a request gets one when all of it is there.

gunicorn gives a thread to a connection with its first byte. A client that sends a byte now and then has it for as long
as it likes, and as many such clients as there are threads, four a process, stop the site and then its probes. Here the
worker's main thread looks, without taking anything out, at what the kernel has received so far.
"""

from __future__ import annotations

import re
import socket
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)


def is_complete(received: bytes, limit: int) -> bool:
    """Whether a thread could read the whole request without waiting, or `limit` bytes of it."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found or len(received) >= limit:
        return len(received) >= limit
    if _CHUNKED.search(head):
        return body.endswith(b"0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is None or len(body) >= int(length[1])


class BufferingWorker(ThreadWorker):
    """gthread, but threads read only what has arrived. The kernel holds what has not; a connection has 10 s for it."""

    SECONDS = 10.0
    # More than Django takes (DATA_UPLOAD_MAX_MEMORY_SIZE) and headers. A longer request is read by its thread.
    LIMIT = 96 * 1024

    def enqueue_req(self, conn: Any) -> None:
        """Called for a new connection, and for one that sends its next request."""
        if conn.parser is not None and conn.parser.unreader.buf.getvalue():
            # Part of another request came with the last one, and nobody can look at the rest of it: no pipelining.
            self.nr_conns -= 1
            conn.close(graceful=True)
            return
        conn.received = -1
        if self._look(conn):
            self._give_to_thread(conn)
            return
        conn.timeout = time.monotonic() + self.SECONDS
        self.pending_conns.append(conn)  # gunicorn closes those whose time is over
        self.poller.register(conn.sock, 1, partial(self._on_more, conn))

    def _on_more(self, conn: Any, _: socket.socket) -> None:
        if self._look(conn):
            self.poller.unregister(conn.sock)
            self.pending_conns.remove(conn)
            self._give_to_thread(conn)

    def _look(self, conn: Any) -> bool:
        """Whether the request is there, or will never be. If not, be woken by the next byte, not by those seen."""
        try:
            received = conn.sock.recv(self.LIMIT, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        # As many as before: the client has sent its last one.
        if not received or len(received) == conn.received or is_complete(received, self.LIMIT):
            return True
        conn.received = len(received)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(received) + 1)
        return False

    def _give_to_thread(self, conn: Any) -> None:
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.data_ready = True
        super().enqueue_req(conn)
