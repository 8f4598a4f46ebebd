# GNU General Public License v3.0+ (see LICENSE)
"""Says of a pod without a node, or a claim without a volume, whether to wait on: from objects and events alone."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field

# How long, in seconds, what may pass by itself may take, before it counts as the answer: a pod without a node, a claim
# without a volume, a mount that fails.
PATIENCE_SECONDS = 30
# By so much at most an apply comes before the wait for what it applied.
APPLY_SECONDS = 5
# How long a node may take to be made, unless site_node_patience says otherwise.
NODE_SECONDS = 600

# By these an autoscaler says of a pod that it makes a node for it (the cluster-autoscaler's, Karpenter's) ...
MAKES_A_NODE = {"TriggeredScaleUp", "Nominated"}
# ... and by this that no node which it could make would help.
MAKES_NO_NODE = "NotTriggerScaleUp"
# By these Kubernetes says that somebody else has to make a claim's volume; they are of the type Normal.
WAITS_FOR_SOMEBODY = {"ExternalProvisioning", "FailedBinding"}
# By this a provisioner says that it is at work.
AT_WORK = "Provisioning"
# By these a claim says that it waits for its first pod.
WAITS_FOR_A_POD = {"WaitForFirstConsumer", "WaitForPodScheduled"}


@dataclass
class Patience:
    """How long a wait gives to what may pass.

    Attributes:
        node_seconds: what a node may take that an autoscaler makes.
        began: when the wait began, by `time.monotonic`. What happened before may have been mended since.
    """

    node_seconds: float = NODE_SECONDS
    began: float = field(default_factory=time.monotonic)
    _seen: dict[str, float] = field(default_factory=dict)

    def lasted(self, timestamp: str | None) -> float:
        """Seconds of this wait since a Kubernetes timestamp."""
        return min(age(timestamp), time.monotonic() - self.began)

    def counts(self, timestamp: str | None) -> bool:
        """Whether what was said at that time is said of this try: since its apply, or it stands after all patience."""
        lasted = time.monotonic() - self.began
        return age(timestamp) <= lasted + APPLY_SECONDS or lasted > PATIENCE_SECONDS

    def is_over(self, timestamp: str | None) -> bool:
        """Whether something has been as it is since that timestamp, and this wait has given it its time."""
        return self.lasted(timestamp) > PATIENCE_SECONDS

    def is_over_for(self, what: str, is_so: bool) -> bool:
        """Whether each look of this wait has seen something so for too long: for what has no timestamp of its own.

        Args:
            what: a name for it.
            is_so: what this look sees.
        """
        if not is_so:
            self._seen.pop(what, None)
            return False
        return time.monotonic() - self._seen.setdefault(what, time.monotonic()) > PATIENCE_SECONDS


def age(timestamp: str | None) -> float:
    """Seconds since a Kubernetes timestamp; 0 for none."""
    if not timestamp:
        return 0.0
    then = datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()


def condition(item: dict, kind: str) -> dict:
    """The condition of that type, or an empty dict."""
    return next((c for c in item.get("status", {}).get("conditions") or [] if c["type"] == kind), {})


def moment(event: dict) -> str:
    """When an event was last told; the three ways of telling it are of three versions of the API."""
    told = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return told or event.get("metadata", {}).get("creationTimestamp") or ""


def first_moment(event: dict) -> str:
    """When an event was told first."""
    return event.get("firstTimestamp") or event.get("eventTime") or moment(event)


def node_is_made(events: list[dict], patience: Patience) -> dict | None:
    """The event by which an autoscaler says that it makes a node for a pod.

    Args:
        events: those about the pod, oldest first.
        patience: how long that may take.

    Returns:
        None where it says so no more, or where it said so too long ago.
    """
    told = [event for event in events if event["reason"] in MAKES_A_NODE | {MAKES_NO_NODE}][-1:]
    if not told or told[0]["reason"] == MAKES_NO_NODE or age(moment(told[0])) > patience.node_seconds:
        return None
    return told[0]


def unscheduled(pod: dict) -> dict:
    """The condition by which the scheduler says that it finds no node for a pod, or an empty dict."""
    found = condition(pod, "PodScheduled")
    return found if found.get("status") == "False" else {}


def node_problem(pod: dict, events: list[dict], patience: Patience) -> str | None:
    """Why a pod gets no node, or None: it has one, or may still get one.

    Args:
        pod: the pod.
        events: those about it, oldest first.
        patience: of the wait.
    """
    waits, name = unscheduled(pod), pod["metadata"]["name"]
    if not waits or not patience.is_over(waits.get("lastTransitionTime")):
        return None
    if node_is_made(events, patience) and patience.lasted(waits.get("lastTransitionTime")) <= patience.node_seconds:
        return None
    told = [event for event in events if event["reason"] in MAKES_A_NODE | {MAKES_NO_NODE}][-1:]
    problem = f"pod {name} finds no node: {waits.get('message')}"
    if not told:
        return problem
    late = "" if told[0]["reason"] == MAKES_NO_NODE else f" {patience.node_seconds:.0f} s ago (site_node_patience)"
    return f"{problem} The autoscaler said{late}: {told[0]['reason']}: {told[0]['message']}"


def claim_problem(claim: dict, events: list[dict], patience: Patience) -> str | None:
    """Why a claim gets no volume, or None: not known yet, or somebody is at work on it.

    Args:
        claim: one that is not bound.
        events: those about it, oldest first.
        patience: of the wait.
    """
    attempts = [event for event in events if event.get("type") == "Warning" or event["reason"] == AT_WORK]
    if attempts:
        failed = attempts[-1] if attempts[-1].get("type") == "Warning" else None
        if failed and patience.is_over(claim["metadata"]["creationTimestamp"]):
            return f"{failed['reason']}: {failed['message']}"
        return None
    idle = next((event for event in reversed(events) if event["reason"] in WAITS_FOR_SOMEBODY), None)
    if idle and patience.is_over(first_moment(idle)):
        return f"{idle['reason']}: {idle['message']}"
    return None


def waits_for_a_pod(events: list[dict]) -> bool:
    """Whether a claim says that its volume is made for its first pod."""
    return bool(events) and events[-1]["reason"] in WAITS_FOR_A_POD
