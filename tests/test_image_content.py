"""An image's tag stands for what is in the image: what changes the one changes the other, and nothing else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))
import content

RULES = """
# a comment
*
!app
!deep/down/kept.txt
app/tests
app/*.md
!app/README.md
**/__pycache__
**/*.log
app/data/file?.bin
"""
TREE = [
    "top.txt",
    "other/x.txt",
    "app/a.py",
    "app/tests/t.py",
    "app/NOTES.md",
    "app/README.md",
    "app/sub/deep.md",
    "app/sub/__pycache__/a.pyc",
    "app/sub/x.log",
    "app/data/file1.bin",
    "app/data/file10.bin",
    "deep/down/kept.txt",
    "deep/down/not.txt",
    "deep/x.txt",
    "apple/x.txt",
]
KEPT = [
    "app/README.md",
    "app/a.py",
    "app/data/file10.bin",
    "app/sub/deep.md",
    "deep/down/kept.txt",
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context with RULES and TREE."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text(RULES)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return tmp_path


def digest(context: Path, **inputs: object) -> str:
    return content.digest(context, content.files_of(context), **inputs)


def test_rules_are_read_as_docker_reads_them(context: Path) -> None:
    assert content.files_of(context) == sorted([".dockerignore", "Dockerfile", *KEPT])


@pytest.mark.servers
@pytest.mark.skipif(not shutil.which("buildah") or os.geteuid() != 0, reason="buildah, as root, is the judge")
def test_rules_are_read_as_the_builder_reads_them(context: Path) -> None:
    def buildah(*arguments: str) -> str:
        return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    image = buildah("build", "--quiet", str(context))
    container = buildah("from", image)
    try:
        root = Path(buildah("mount", container))
        assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == KEPT
    finally:
        buildah("rm", container)
        buildah("rmi", image)


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", *KEPT])
def test_every_file_of_the_image_counts(context: Path, name: str) -> None:
    before = digest(context)
    with (context / name).open("a") as file:
        file.write("\n# more")
    assert digest(context) != before


def test_names_programs_and_arguments_count(context: Path) -> None:
    seen = {digest(context, base="a:1")}
    (context / "app/a.py").chmod(0o755)
    seen.add(digest(context, base="a:1"))
    (context / "app/a.py").rename(context / "app/b.py")
    seen.add(digest(context, base="a:1"))
    seen.add(digest(context, base="a:2"))
    assert len(seen) == 4


def test_what_is_not_in_the_image_does_not_count(context: Path) -> None:
    before = digest(context)
    for name in set(TREE) - set(KEPT):
        (context / name).write_text("something else")
    os.utime(context / "app/a.py", (1, 1))
    (context / "app/a.py").chmod(0o600)
    assert digest(context) == before


def test_the_copy_is_readable_for_every_user(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (context / "app").chmod(0o700)
    (context / "app/a.py").chmod(0o600)
    target = tmp_path_factory.mktemp("copy")
    old = os.umask(0o077)
    try:
        content.copy(context, content.files_of(context), target)
    finally:
        os.umask(old)
    assert (target / "app/a.py").stat().st_mode & 0o777 == 0o644
    assert (target / "app").stat().st_mode & 0o777 == 0o755
    assert content.digest(target, content.files_of(target)) == digest(context)


def test_tests_stay_out_of_the_web_image() -> None:
    files = content.files_of(ROOT)
    assert {"Dockerfile", "webapp/manage.py", "webapp/requirements.txt"} <= set(files)
    assert not [
        name
        for name in files
        if name.startswith("webapp/tests")
        or not name.startswith(("webapp/", "roles/image/files/bases/sbom.py", "D", "."))
    ]
