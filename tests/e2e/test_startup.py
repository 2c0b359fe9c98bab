"""Commands that reach their end import nothing heavy either: what the interpreter itself reports while it runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.startup import HEAVY

pytestmark = pytest.mark.requires("root")
# As the launcher starts it (native/launcher), and with a report.
INTERPRETER = (sys.executable, "-I", "-S", "-X", "utf8", "-X", "importtime")


def reported(stderr: str) -> set[str]:
    """Module names of `-X importtime` lines: `import time: SELF | CUMULATIVE | NAME`."""
    return {
        line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:")
    }


@pytest.fixture(autouse=True)
def bundle(knarr: Knarr) -> None:
    """The first command after an edit makes the bundle of modules (knarr.startup), and imports for it what it likes."""
    knarr.ok("--version")


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """What this interpreter imports before it reads a line of ours."""
    done = subprocess.run([*INTERPRETER, "-c", "pass"], capture_output=True, text=True)
    return reported(done.stderr)


def heavy(knarr: Knarr, bare: set[str], *words: str) -> list[str]:
    script = Path(sys.prefix, "bin/knarr-py")
    # Warnings as errors are the other tests' business: the module `warnings` is what asks for `re`.
    env = {name: value for name, value in knarr.env.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [*INTERPRETER, str(script), "knarr", *words],
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    modules = reported(done.stderr)
    assert "knarr.cli.main" in modules
    assert "site" not in modules
    assert "_collections_abc" not in modules  # the whole of `os` (knarr.lean_os)
    return sorted((modules - bare) & set(HEAVY))


def test_run_in_the_foreground(knarr: Knarr, busybox: str, bare: set[str]) -> None:
    assert heavy(knarr, bare, "run", "--rm", "--network", "none", busybox, "true") == []


@pytest.mark.requires("nft")
def test_run_on_the_bridge(knarr: Knarr, busybox: str, bare: set[str]) -> None:
    knarr.ok("run", "--rm", busybox, "true")  # makes the bridge, which may import what it likes
    assert heavy(knarr, bare, "run", "--rm", "-p", "127.0.0.1:18080:80", busybox, "true") == []


def test_the_life_of_a_container(knarr: Knarr, busybox: str, bare: set[str]) -> None:
    assert (
        heavy(knarr, bare, "run", "-d", "--name", "web", "--network", "none", busybox, "sleep", "100") == []
    )
    for words in (
        ["exec", "web", "true"],
        ["ps"],
        ["ps", "-a", "--no-trunc"],
        ["logs", "web"],
        ["inspect", "web"],
        ["inspect", busybox],
        ["stop", "-t", "0", "web"],
        ["start", "web"],
        ["kill", "web"],
        ["wait", "web"],
        ["rm", "-f", "web"],
    ):
        assert heavy(knarr, bare, *words) == [], words
