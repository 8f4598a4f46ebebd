"""Collects the figures of each disturbance and prints them as one table at the end."""

from __future__ import annotations

import disturbance
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table that docs/reliability.md shows."""
    if disturbance.TABLE:
        terminalreporter.write_sep("=", "what was survived, and how")
        terminalreporter.write_line(disturbance.HEAD)
        for line in sorted(disturbance.TABLE, key=lambda line: int(line.split()[1])):
            terminalreporter.write_line(line)
