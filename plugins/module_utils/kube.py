# GNU General Public License v3.0+ (see LICENSE)
"""The Kubernetes API as this project's plugins use it: plain JSON, bounded, with errors people can act on."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 5
READ_SECONDS = 15
EXEC_SECONDS = 60

# The label of every object of a site: its name.
PART_OF = "app.kubernetes.io/part-of"
# As whom the playbooks apply, role site's site_field_manager.
FIELD_MANAGER = "kubernetes-django"

# Where the kinds live that the plugins read and the roles apply. Discovery would cost a request for each group.
PATHS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "PersistentVolume": ("/api/v1", "persistentvolumes", False),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses", False),
    "IngressClass": ("/apis/networking.k8s.io/v1", "ingressclasses", False),
    "PriorityClass": ("/apis/scheduling.k8s.io/v1", "priorityclasses", False),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "Pod": ("/api/v1", "pods", True),
    "Event": ("/api/v1", "events", True),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Service": ("/api/v1", "services", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "LimitRange": ("/api/v1", "limitranges", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "Ingress": ("/apis/networking.k8s.io/v1", "ingresses", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "CronJob": ("/apis/batch/v1", "cronjobs", True),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
}
# Of an answer: there was none, the server has too much to do, or its store or proxy does not answer it.
PASSING = {0, 429, 500, 502, 503, 504}


class KubeError(Exception):
    """A request that did not succeed; the text says what to do. ``status`` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same question may get an answer later; a refusal stays one."""
        return self.status in PASSING


class Kube:
    """A connection to one context of a kubeconfig.

    Args:
        kubeconfig: path of the kubeconfig file, or several as in KUBECONFIG.
        context: name of the context in it.

    Raises:
        KubeError: the file is missing or unreadable, or has no such context; or there is no Kubernetes client.
    """

    def __init__(self, kubeconfig: str, context: str) -> None:
        # Imported here: it takes 0.3 s, and only the plugins that talk to a cluster should pay for it.
        try:
            from kubernetes import config
            from kubernetes.config import kube_config
        except ImportError as error:
            raise KubeError(
                f"The Python that Ansible runs in lacks the Kubernetes client ({error}). Install it: "
                f"{sys.executable} -m pip install kubernetes jsonpatch"
            ) from error

        self.context = context
        # As kubectl takes it: several files, of which some may be missing.
        paths = [str(Path(path).expanduser()) for path in kubeconfig.split(os.pathsep) if path]
        files = os.pathsep.join(path for path in paths if Path(path).is_file())
        if not files:
            raise KubeError(
                f"site_kubeconfig: there is no file {' or '.join(paths)}. Start a cluster with playbooks/cluster.yml, "
                "or set cluster_kubeconfig to the kubeconfig of yours."
            )
        try:
            # The library's list_kube_config_contexts fails where no context is the current one.
            contexts = [entry["name"] for entry in kube_config.KubeConfigMerger(files).config["contexts"]]
        except config.ConfigException:
            contexts = []
        if context not in contexts:
            raise KubeError(
                f"site_context: {files} has no context {context!r}, only "
                f"{', '.join(contexts) or 'none'}. Set cluster_context to one of these, or start a cluster "
                "with playbooks/cluster.yml."
            )
        try:
            self._client = config.new_client_from_config(config_file=files, context=context)
        except config.ConfigException as error:
            raise KubeError(f"site_kubeconfig: {files} cannot be used: {error}") from error
        self.server = self._client.configuration.host
        # The library would retry a dead server three times before it says so.
        self._client.configuration.retries = False
        self._client.rest_client.pool_manager.connection_pool_kw["retries"] = False

    def request(
        self,
        method: str,
        path: str,
        body: dict | None = None,
        query: dict | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request.

        Returns:
            the decoded JSON, the text where the answer is not JSON, or None where the object does not exist (404).

        Raises:
            KubeError: no answer, or a refusal.
        """
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        status, text = self._send(method, path, headers, body, query)
        if status == 404:
            return None
        if status >= 400:
            raise KubeError(f"{method} {path}: {message_of(text) or text[:200]}", status)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def through_service(self, namespace: str, service: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """GET a path of a Service's port `http`, asked by the API server.

        Returns:
            HTTP status and text: the Service's, or the API server's own, a Status, where it could not ask.

        Raises:
            KubeError: no answer.
        """
        proxy = f"{self.path('Service', namespace, f'http:{service}:http')}/proxy{path}"
        return self._send("GET", proxy, {"Accept": "text/html, */*"} | headers)

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: dict | None = None, query: dict | None = None
    ) -> tuple[int, str]:
        """Send one request; return the answer's HTTP status and text.

        Raises:
            KubeError: no answer.
        """
        import urllib3

        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            body=body,
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(
                f"No cluster answers at {self.server} (context {self.context}): {reason_of(error)}. "
                "Start it with playbooks/cluster.yml, or set cluster_context to one that runs."
            ) from error
        return answer.status, answer.data.decode(errors="replace")

    @staticmethod
    def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The path of a kind's list, or of one object; without a namespace, of all namespaces' objects."""
        base, plural, namespaced = PATHS[kind]
        middle = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{base}{middle}/{plural}" + (f"/{name}" if name else "")

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict | None:
        """One object, or None where it does not exist."""
        return self.request("GET", self.path(kind, namespace, name))

    def list(
        self, kind: str, namespace: str | None = None, selector: dict[str, str] | None = None, fields: str | None = None
    ) -> list[dict]:
        """The objects of a kind, by labels and by fields (in Kubernetes' own notation)."""
        query = {}
        if selector:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in selector.items())
        if fields:
            query["fieldSelector"] = fields
        return (self.request("GET", self.path(kind, namespace), query=query) or {}).get("items", [])

    def list_if_allowed(
        self, kind: str, namespace: str | None = None, selector: dict[str, str] | None = None
    ) -> list[dict] | None:
        """As `list`; None for an account that may not look, as one of a namespace may not beyond it.

        Raises:
            KubeError: no answer, or another refusal.
        """
        try:
            return self.list(kind, namespace, selector)
        except KubeError as error:
            if error.status == 403:
                return None
            raise

    def apply(self, item: dict, dry_run: bool = False) -> dict:
        """Apply one object as the playbooks do: server-side, and what somebody changed by hand is put back.

        Args:
            item: the object.
            dry_run: only return what it would become.
        """
        path = self.path(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return self.request("PATCH", path, item, query, "application/apply-patch+yaml")

    def annotate(self, kind: str, name: str, namespace: str, annotation: str, value: str | None) -> None:
        """Set one annotation of an object, or take it away with None."""
        patch = {"metadata": {"annotations": {annotation: value}}}
        path = self.path(kind, namespace, name)
        self.request("PATCH", path, patch, content_type="application/merge-patch+json")

    def run_in_pod(
        self, namespace: str, pod: str, container: str, command: list[str], stdin: str = ""
    ) -> tuple[int, str, str]:
        """Run a command in a pod, with a text on its standard input; once more where the connection was lost.

        Args:
            namespace: of the pod.
            pod: its name.
            container: the one of its containers.
            command: may be run twice.
            stdin: the text.

        Returns:
            exit code, standard output, standard error.

        Raises:
            KubeError: the command could not be run, or did not end within EXEC_SECONDS.
        """
        from websocket import WebSocketException

        with contextlib.suppress(WebSocketException):
            return self._run_in_pod(namespace, pod, container, command, stdin)
        try:
            return self._run_in_pod(namespace, pod, container, command, stdin)
        except WebSocketException as error:
            raise KubeError(f"The connection to pod {pod} was lost twice: {error} Run this again.") from error

    def _run_in_pod(
        self, namespace: str, pod: str, container: str, command: list[str], stdin: str
    ) -> tuple[int, str, str]:
        """As run_in_pod, once. Raises WebSocketException where the connection is lost."""
        from kubernetes.client.rest import ApiException
        from kubernetes.stream import ws_client

        query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        path = f"{self.path('Pod', namespace, pod)}/exec"
        _, url, headers, *_ = self._client.param_serialize(
            "GET", path, query_params=query, auth_settings=["BearerToken"]
        )
        try:
            stream = ws_client.websocket_call(
                self._client.configuration, "GET", url, headers=headers, _preload_content=False
            )
        except ApiException as error:
            raise KubeError(f"No command can be run in pod {pod}: {error.reason}") from error
        try:
            stream.write_stdin(stdin)
            stream.close_channel(ws_client.STDIN_CHANNEL)
            stream.run_forever(timeout=EXEC_SECONDS)
            if stream.is_open():
                raise KubeError(f"{command[0]} in pod {pod} did not end within {EXEC_SECONDS} s.")
            output, errors = stream.read_stdout(timeout=0), stream.read_stderr(timeout=0)
            return stream.returncode, output, errors
        finally:
            stream.close()

    def log(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> str:
        """The last lines of a container's log, or nothing where there is none (yet)."""
        query = {"container": container, "tailLines": str(lines)} | ({"previous": "true"} if previous else {})
        try:
            answer = self.request("GET", f"{self.path('Pod', namespace, pod)}/log", query=query)
        except KubeError:
            return ""
        return answer if isinstance(answer, str) else json.dumps(answer) if answer is not None else ""


def message_of(text: str) -> str | None:
    """What the API server says in an answer of its own, a Status; None for any other text."""
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    is_status = isinstance(answer, dict) and answer.get("kind") == "Status"
    return answer.get("message", "") if is_status else None


def reason_of(error: BaseException) -> str:
    """The innermost cause of a connection's error, without the library's nesting."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return str(error).rpartition(": ")[2] or type(error).__name__
