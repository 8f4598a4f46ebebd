"""No function is longer than a screen: who reads one sees all of it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT

SCREEN = 40  # lines
SHELL = re.compile(r"\.(sh|j2)$|^#!.*\b(ba)?sh$")
# Its last line, `}` or `)`, stands as far in as its first one. One of a single line has no end to look for.
SHELL_FUNCTION = re.compile(r"^( *)([\w-]+)\(\) [{(]\n.*?^\1[})]", re.MULTILINE | re.DOTALL)


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """The name of each function, and how many lines it has."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def shell_functions(text: str) -> Iterator[tuple[str, int]]:
    """The same of a shell script."""
    for found in SHELL_FUNCTION.finditer(text):
        yield found[2], found[0].count("\n") + 1


def tracked_files() -> Iterator[tuple[str, str]]:
    """Path and text of each file that git knows, but for pictures and the like."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in run.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(errors="replace")


def is_python(name: str, text: str) -> bool:
    """Whether this is Python, by its name or its first line."""
    return name.endswith(".py") or text.startswith("#!/usr/bin/env python")


def is_shell(name: str, text: str) -> bool:
    """Whether this is a shell script, or a template that may hold one."""
    return bool(SHELL.search(name) or SHELL.search(text.partition("\n")[0]))


@pytest.mark.parametrize(
    ("belongs", "functions"), [(is_python, python_functions), (is_shell, shell_functions)], ids=["python", "shell"]
)
def test_no_function_is_longer_than_a_screen(
    belongs: Callable[[str, str], bool], functions: Callable[[str], Iterator[tuple[str, int]]]
) -> None:
    found = [(name, *each) for name, text in tracked_files() if belongs(name, text) for each in functions(text)]
    assert len(found) > 100
    assert [f"{name}: {function} has {lines} lines" for name, function, lines in found if lines > SCREEN] == []
