"""Where what the tests need cannot be installed, the first of their stages says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

from conftest import Project


def test_says_who_can_install_what_is_missing(shared_project: Project, tmp_path: Path) -> None:
    identity = tmp_path / "id"
    identity.write_text("#!/bin/sh\necho 1000\n")
    identity.chmod(0o755)
    programs = {"chromium": "/nonexistent/chromium", "nginx": "/nonexistent/nginx"}
    missing = json.dumps({"__prepare_programs": programs})
    run = shared_project.run("tests/prepare.yml", "--check", "-e", missing, PATH=f"{tmp_path}:{os.environ['PATH']}")
    said = " ".join(run.stdout.split())
    assert run.returncode != 0
    assert "Nothing was touched: the tests need chromium, nginx, which are installed as root on Debian alone" in said
    assert "Install what is missing" not in said
