# GNU General Public License v3.0+ (see LICENSE)
"""Logins to registries as docker's config.json has them, which kubelet reads as well."""

from __future__ import annotations

import base64
import json

# What Docker Hub is called there.
DOCKER_HUB = "https://index.docker.io/v1/"


def docker_config(logins: list[dict[str, str]]) -> str:
    """The text of the file, the same for the same logins, each of which has server, username and password."""
    auths = {}
    for login in logins:
        server = DOCKER_HUB if login["server"] == "docker.io" else login["server"]
        together = f"{login['username']}:{login['password']}"
        auths[server] = {
            "auth": base64.b64encode(together.encode()).decode(),
            "password": login["password"],
            "username": login["username"],
        }
    return json.dumps({"auths": auths}, sort_keys=True)


def logins_of(text: str) -> list[dict[str, str]]:
    """The logins of which `docker_config` makes this text."""
    return [
        {
            "server": "docker.io" if server == DOCKER_HUB else server,
            "username": login["username"],
            "password": login["password"],
        }
        for server, login in json.loads(text)["auths"].items()
    ]
