"""The launcher: the installed `knarr` and `knarr-runtime` start the interpreter their script names, without `site`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.prefix, "bin")
ARGV = "import sys; print(sys.orig_argv)"

pytestmark = pytest.mark.skipif(
    not (BIN / "knarr").exists(), reason="knarr is not installed in this environment"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory of programs in which `knarr-py` says how it was started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("knarr", "knarr-runtime"):
        shutil.copy(BIN / name, folder)
    script(folder, f"#!{sys.executable}")
    return folder


def script(folder: Path, first: str) -> None:
    (folder / "knarr-py").write_text(f"{first}\n{ARGV}\n")
    (folder / "knarr-py").chmod(0o755)


def started(*argv: str | Path, **env: str) -> list[str]:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"], **env}
    )
    found = eval(done.stdout)  # noqa: S307  # a list that Python printed
    assert isinstance(found, list)
    return found


def test_it_starts_the_interpreter_of_the_script_without_site(installed: Path) -> None:
    for name in ("knarr", "knarr-runtime"):
        assert started(installed / name, "run", "a b", "") == [
            sys.executable, "-I", "-S", "-X", "utf8", str(installed / "knarr-py"), name, "run", "a b", ""
        ]  # fmt: skip


def test_it_is_found_through_a_link(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "k").symlink_to(installed / "knarr")
    assert started(tmp_path / "k", "ps")[5:] == [str(installed / "knarr-py"), "knarr", "ps"]


@pytest.mark.parametrize(
    "first", ["#!/usr/bin/env python3", "#!{} -B", "#!/bin/sh\n'''exec' {} \"$0\" \"$@\"\n'''"]
)
def test_a_first_line_it_does_not_know_is_left_to_the_kernel(installed: Path, first: str) -> None:
    script(installed, first.format(sys.executable))
    assert started(installed / "knarr", "ps")[-3:] == [str(installed / "knarr-py"), "knarr", "ps"]


def test_an_interpreter_that_is_gone_is_told(installed: Path) -> None:
    for damage in (lambda: script(installed, "#!/nowhere/python3"), (installed / "knarr-py").unlink):
        damage()
        done = subprocess.run([installed / "knarr", "ps"], capture_output=True, text=True)
        assert done.returncode == 126
        assert done.stderr.startswith(
            f"knarr: {installed}/knarr-py: No such file or directory\n  install knarr anew"
        )


def test_variables_for_python_do_not_reach_the_command(tmp_path: Path) -> None:
    (tmp_path / "knarr").mkdir()
    (tmp_path / "knarr/__init__.py").write_text("raise SystemExit('imported from PYTHONPATH')\n")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('sitecustomize')\n")
    env = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([BIN / "knarr", "--version"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.stdout.startswith("knarr version"), done.stderr


def test_what_only_site_would_find_is_found(tmp_path: Path) -> None:
    """A dependency behind a `.pth` file, or in another directory that `site` adds."""
    program = "import sys; sys.argv[1:] = ['nothing']\n" + (BIN / "knarr-py").read_text().replace(
        "module.enter(",
        "module.install()\nimport isal, knarr.cli.main\nprint('site' in sys.modules)\nsys.exit(",
    )
    copy = BIN / f"test-{os.getpid()}"
    copy.write_text(program)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(copy), "knarr"], capture_output=True, text=True
        )
    finally:
        copy.unlink()
    assert done.stdout == "True\n", done.stderr
