# GNU General Public License v3.0+ (see LICENSE)
"""Ends a run that finds no site in the inventory: Ansible would do nothing, and call that a success."""

from __future__ import annotations

DOCUMENTATION = """
    name: sites
    type: aggregate
    short_description: Ends a run that finds no site
    description:
      - A site is a host of the inventory group C(sites). Where a play is for this group and no host of it is found, the
        run fails, and says how to add one.
"""

from typing import Any

from ansible.plugins.callback import CallbackBase

MESSAGE = (
    "There is no site to work on: sites are the hosts of the inventory group sites, or those of them that --limit "
    "names. The project's inventory/hosts.yml shows such a group. Nothing was touched."
)


class CallbackModule(CallbackBase):
    """Ansible's side of it: see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sites"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._hosts = play.hosts

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._hosts == ["sites"]:
            raise SystemExit(MESSAGE)
