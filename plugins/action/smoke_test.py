# GNU General Public License v3.0+ (see LICENSE)
"""Asks the site for a page: through the API server, and by the ways that its users come, as far as they lead from here.

In a plugin: ansible.builtin.uri starts a process for it, a tenth of a second deploy's time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import read_secret
from ansible_collections.kubernetes_django.site.plugins.module_utils.smoke import (
    Answer,
    ask_directly,
    ask_through_api,
    ask_until,
)
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction

# Until a node's proxy has heard of new pods.
NODE_SECONDS = 5
# What asks for a login in front of a site answers so, and a load balancer that has not heard of its pods yet.
IN_FRONT = {401, 403, 407, 502, 503, 504}


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/smoke_test.py."""

    _VALID_ARGS = frozenset(
        (
            "kubeconfig",
            "context",
            "namespace",
            "service",
            "path",
            "status",
            "timeout",
            "host",
            "behind_tls",
            "given",
            "origins",
            "ca_secret",
            "nodes",
            "hint",
        )
    )

    def act(self, kube: Kube) -> dict[str, Any]:
        args, warnings = self._task.args, []
        headers = {"Host": args["host"]} | ({"X-Forwarded-Proto": "https"} if args["behind_tls"] else {})
        api = self._ask(partial(ask_through_api, kube, args["namespace"], args["service"], args["path"], headers))
        if api.wrong and not self._is_good(api):
            raise KubeError(
                f"The Service {args['service']} does not answer {args['path']} as it should within "
                f"{args['timeout']} s, asked through the API server with Host {args['host']}: {api.said}"
            )
        if not self._is_good(api):
            warnings.append(f"The site could not be asked through the API server: {api.said}.")
        urls = [args["given"]] if args["given"] else args["origins"]
        seen = [url for url in urls if self._is_good(self._users_way(kube, url, self._is_good(api), warnings))]
        if not urls:
            urls = seen = self._node_ports(api)
        if not seen and not self._is_good(api):
            warnings.append("Nobody could ask the site from here. Its pods are ready; look at it yourself.")
        url = urls[0] if urls else ""
        return {"changed": False, "url": url, "told": self._tell(url, url in seen), "warnings": warnings}

    def _is_good(self, answer: Answer) -> bool:
        return answer.status in self._task.args["status"]

    def _ask(self, ask: Any, seconds: float | None = None) -> Answer:
        """Ask until the answer is good, or time is up."""
        return ask_until(ask, self._task.args["status"], seconds or float(self._task.args["timeout"]))

    def _users_way(self, kube: Kube, url: str, is_well: bool, warnings: list[str]) -> Answer:
        """Ask at a URL that the site's users know. `is_well` is what the API server found the site to be.

        Raises:
            KubeError: it was given by the user, and the answer is wrong.
        """
        args = self._task.args
        ca = read_secret(kube, args["namespace"], args["ca_secret"]).get("ca.crt", "") if args["ca_secret"] else ""
        answer = self._ask(partial(ask_directly, f"{url}{args['path']}", ca))
        if self._is_good(answer):
            return answer
        if answer.wrong and url == args["given"] and not (is_well and answer.status in IN_FRONT):
            raise KubeError(f"django_url: {url}{args['path']} does not answer as it should: {answer.said}")
        what = "answers from here otherwise than the site does" if answer.wrong else "cannot be reached from here"
        warnings.append(f"{url}{args['path']} {what}: {answer.said}.")
        return answer

    def _node_ports(self, api: Answer) -> list[str]:
        """The URL of a node at which this machine sees the site, if there is one.

        Raises:
            KubeError: nobody else could ask, and the answer is wrong.
        """
        args = self._task.args
        for url in args["nodes"]:
            answer = self._ask(partial(ask_directly, f"{url}{args['path']}"), NODE_SECONDS)
            if self._is_good(answer):
                return [url]
            if answer.wrong and not self._is_good(api):
                raise KubeError(f"{url}{args['path']} does not answer as it should: {answer.said}")
        return []

    def _tell(self, url: str, is_seen: bool) -> str:
        """Where the site is, for people."""
        if is_seen:
            return f"The site answers at {url}/"
        if url:
            return f"The site is at {url}/, which this machine could not see."
        return f"The site runs, and no node's port leads to it from here. Open it with: {self._task.args['hint']}"
