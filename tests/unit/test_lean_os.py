"""The light `os` of the command: the same answers, and the whole module as soon as anything else is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
BEGIN = f"""
import sys
assert "os" not in sys.modules
sys.path.insert(0, {str(SOURCE)!r})
import knarr.lean_os
knarr.lean_os.provide()
import os
def light():
    return "_collections_abc" not in sys.modules
assert light()
"""


def run(program: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", BEGIN + program],
        capture_output=True,
        text=True,
        env={"PATH": "/bin", **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_command_uses_needs_no_more(tmp_path: Path) -> None:
    run(
        f"""
os.makedirs({str(tmp_path / "a/b/c")!r}, 0o700)
os.makedirs({str(tmp_path / "a/b/c/")!r}, exist_ok=True)
assert os.path.isdir({str(tmp_path / "a/b/c")!r})
assert oct(os.stat({str(tmp_path / "a/b/c")!r}).st_mode) == "0o40700"
for wrong in ({str(tmp_path / "a")!r}, "/proc/self/nothing/here"):
    try:
        os.makedirs(wrong)
    except OSError:
        continue
    raise AssertionError(wrong)
assert os.fsencode("\\udcff/é") == b"\\xff/\\xc3\\xa9" and os.fsencode(b"x") == b"x"
from os import path
import os.path
assert path is os.path and path.join("a", "b") == "a/b"
assert os.environ["PATH"] == "/bin" and os.environ.get("NOTHING") is None
assert os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ), 0)[1] == 3 << 8
assert light()
"""
    )


def test_the_environment_is_the_process_s(tmp_path: Path) -> None:
    """Changes before and after the whole of `os` is there, seen by children and by what comes after."""
    shown = run(
        r"""
os.environ["A"] = "1"
os.environ["B"] = "\udcff"
os.environ.setdefault("C", "3")
os.environ.update(D="4")
del os.environ["GONE"]
assert os.environ.pop("GONE2") == "x" and os.environ.pop("NEVER", 5) == 5
assert light()
seen = dict(os.environ)
assert os.fsdecode(b"\xff") == "\udcff" and not light()
assert dict(os.environ) == seen, (dict(os.environ), seen)
assert type(os.environ).__name__ == "_Environ" and os.environb[b"B"] == b"\xff"
os.environ["E"] = "5"
os.execve("/bin/sh", ["sh", "-c", "echo $A$C$D$E$GONE$GONE2"], os.environ)
""",
        GONE="x",
        GONE2="x",
    )
    assert shown == "1345\n"


def test_it_becomes_the_module_that_it_stands_for() -> None:
    run(
        """
before = os
import subprocess, shutil, tempfile, threading, site
site.main()
assert os is before and sys.modules["os"] is os and not light()
import posix
assert os.open is posix.open and os.popen and os.walk and os.PathLike and os.__file__.endswith("os.py")
assert isinstance("x", str) and issubclass(tempfile.TemporaryDirectory, object)
try:
    os.no_such_name
except AttributeError as e:
    assert str(e) == "module 'os' has no attribute 'no_such_name'"
else:
    raise AssertionError
assert subprocess.run(["/bin/sh", "-c", "exit 4"]).returncode == 4
"""
    )


@pytest.mark.parametrize(
    "name", ["SEEK_SET", "SEEK_CUR", "SEEK_END", "name", "sep", "pathsep", "curdir", "O_CLOEXEC"]
)
def test_constants(name: str) -> None:
    assert run(f"print(repr(os.{name}), light())") == f"{getattr(os, name)!r} True\n"


def test_who_has_imported_os_keeps_it() -> None:
    program = BEGIN.replace('assert "os" not in sys.modules', "import os").replace(
        "assert light()", "assert os.walk"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
