# GNU General Public License v3.0+ (see LICENSE)
"""What a run shows: each stage (play) with its time, what changed, what failed, and a sign of life in long tasks."""

from __future__ import annotations

DOCUMENTATION = """
    name: stages
    type: stdout
    short_description: Times of the stages, and a sign of life during long tasks
    description:
      - Ansible's default output without what says nothing, and with the time of every play, which is a stage here.
      - A task that runs for long prints its name and its seconds every ten seconds.
    extends_documentation_fragment:
      - default_callback
      - result_format_callback
"""

import os
import threading
import time
from typing import Any

from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

HEARTBEAT_SECONDS = 10
# These say themselves what they wait for.
SPEAKS_FOR_ITSELF = {"kubernetes_django.site.wait"}


def write_line(text: str) -> None:
    """Write one line to standard output, past Python's buffers.

    A heartbeat runs in a thread while Ansible forks its workers: a lock held by a buffer at that moment would
    stay locked in the worker for ever.
    """
    os.write(1, f"{text}\n".encode())


class CallbackModule(DefaultCallback):
    """Ansible's side of it: see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "kubernetes_django.site.stages"

    def __init__(self) -> None:
        super().__init__()
        self._began = self._stage_began = time.monotonic()
        self._stage: str | None = None
        self._times: dict[str, float] = {}
        self._running: tuple[str, float] | None = None
        self._ended = threading.Event()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        super().v2_playbook_on_start(playbook)
        threading.Thread(target=self._beat, daemon=True).start()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_stage()
        super().v2_playbook_on_play_start(play)
        self._stage, self._stage_began = play.get_name(), time.monotonic()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        super().v2_playbook_on_task_start(task, is_conditional)
        self._running = None if task.action in SPEAKS_FOR_ITSELF else (task.get_name(), time.monotonic())

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """That a file was included says nothing; its tasks do."""

    def v2_runner_on_ok(self, result: Any) -> None:
        if isinstance(result.task, TaskInclude):
            return
        # ansible.cfg hides results that changed nothing; what a playbook says to people is one of them.
        if result.task.action == "ansible.builtin.debug" and "msg" in result.result:
            said = result.result["msg"]
            self._display.display("\n".join(said) if isinstance(said, list) else str(said))
            return
        # With those results Ansible would hide their warnings.
        if not result.result.get("changed") and not self.get_option("display_ok_hosts"):
            self._handle_warnings(result.result)
        super().v2_runner_on_ok(result)

    def v2_on_file_diff(self, result: Any) -> None:
        """A plan changes nothing itself, and its diff is what the next task will do."""
        if result.task.action == "kubernetes_django.site.plan" and result.result.get("diff"):
            self._display.display(self._get_diff(result.result["diff"]))
        else:
            super().v2_on_file_diff(result)

    def _handle_exception(self, result: dict[str, Any], use_stderr: bool = False) -> None:
        """Ansible would print the message once more, with the place in the playbook: for -v and more."""
        if self._display.verbosity:
            super()._handle_exception(result, use_stderr=use_stderr)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._running = None
        self._ended.set()
        self._end_stage()
        super().v2_playbook_on_stats(stats)
        summary = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self._times.items())
        self._display.display(f"Stages: {summary}; {time.monotonic() - self._began:.1f} s in all.")

    def _end_stage(self) -> None:
        if self._stage is not None:
            seconds = time.monotonic() - self._stage_began
            self._times[self._stage] = self._times.get(self._stage, 0) + seconds
            self._display.display(f"-- {self._stage}: {seconds:.1f} s")
        self._stage = None

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            running = self._running
            if running is not None and time.monotonic() - running[1] >= HEARTBEAT_SECONDS:
                write_line(f"   ... {running[0]}: {time.monotonic() - running[1]:.0f} s")
