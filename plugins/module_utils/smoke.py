# GNU General Public License v3.0+ (see LICENSE)
"""Asks a site for a page, by each way there is, and tells a wrong answer from a way that does not exist from here."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError, message_of

CONNECT_SECONDS = 3
ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.3
# OpenSSL's verify codes of a certificate whose issuer this machine does not know, such as a company's CA. The site's
# users may well know it.
UNKNOWN_ISSUER = {18, 19, 20, 21}


@dataclass
class Answer:
    """What came of a request.

    Attributes:
        said: the answer, or why there is none, for people.
        status: the HTTP status; 0 where nothing that speaks for the site answered.
        wrong: something is there, and it is not the site as it should be.
        may_pass: worth asking again.
    """

    said: str
    status: int = 0
    wrong: bool = False
    may_pass: bool = True


def ask_until(ask: Callable[[], Answer], wanted: list[int], seconds: float) -> Answer:
    """Ask until a wanted status comes, or nothing else can come, or the time is over; return the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer.status in wanted or not answer.may_pass or time.monotonic() >= end:
            return answer
        time.sleep(PAUSE_SECONDS)


def ask_through_api(kube: Kube, namespace: str, service: str, path: str, headers: dict[str, str]) -> Answer:
    """Ask through the API server, which every operator reaches, by its proxy of the Service."""
    try:
        status, text = kube.through_service(namespace, service, path, headers)
    except KubeError as error:
        return Answer(f"the API server had no answer of it: {error}")
    own = message_of(text)
    if own is None:
        return Answer(f"HTTP {status}: {text[:300].strip()}", status, wrong=True)
    if status == 403:
        return Answer(f"this account may not get services/proxy in namespace {namespace}", may_pass=False)
    # It has no way to the pods: its own network, a firewall between it and the nodes, a NetworkPolicy.
    return Answer(f"the API server says: {own}", wrong="error trying to reach" not in own)


def ask_directly(url: str, ca: str = "") -> Answer:
    """GET a URL from this machine; redirects are not followed.

    Args:
        url: what to ask.
        ca: a further CA that its certificate may be of, PEM.
    """
    place = urlsplit(url)
    if place.scheme == "https":
        context = ssl.create_default_context()
        if ca:
            context.load_verify_locations(cadata=ca)
        connection = http.client.HTTPSConnection(place.hostname, place.port, timeout=CONNECT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
    except ssl.SSLError as error:
        unknown = getattr(error, "verify_code", 0) in UNKNOWN_ISSUER
        return Answer(f"{getattr(error, 'verify_message', '') or error}", wrong=not unknown)
    except (OSError, UnicodeError) as error:
        # Who refuses may only not listen yet; a name or a network does not appear within seconds.
        return Answer(explain_failure(error), may_pass=isinstance(error, ConnectionError))
    try:
        connection.request("GET", place.path or "/")
        answer = connection.getresponse()
        beginning = answer.read(300).decode(errors="replace").strip()
        return Answer(f"HTTP {answer.status} {answer.reason}: {beginning}", answer.status, wrong=True)
    except (OSError, http.client.HTTPException) as error:
        return Answer(explain_failure(error), wrong=True)
    finally:
        connection.close()


def explain_failure(error: Exception) -> str:
    """Why there is no answer."""
    if isinstance(error, socket.gaierror):
        return "nobody here knows this name"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
