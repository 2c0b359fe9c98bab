"""An ordinary user with version 2 cgroups of their own: where a container can be entered from."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import Knarr, Result
from harness.machine import UID, Machine

pytestmark = pytest.mark.requires("root", "userns", "overlay", "cgroup-v2")


@pytest.fixture
def delegated(machine: Machine) -> Iterator[list[Path]]:
    """Two cgroups that are the user's, below one that is not (cgroups(7), delegation)."""
    top = next(c for c in machine.cgroups if (c / "cgroup.subtree_control").exists())
    made = [top / name for name in ("one", "other")]
    for path in made:
        path.mkdir()
        for file in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):
            os.chown(file, UID, UID)
    yield made
    deadline = time.monotonic() + 10
    for path in made:
        while (path / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        path.rmdir()


def inside(user: Knarr, cgroup: Path, *args: str) -> Result:
    """The command as the user, in that cgroup from before it begins."""
    script = f'echo $$ >"$0/cgroup.procs"; exec setpriv --reuid {UID} --regid {UID} --clear-groups "$@"'
    words = ("sh", "-c", script, str(cgroup), *user.argv, *args)
    done = subprocess.run(words, env=user.env, cwd=user.home, capture_output=True, text=True, check=False)
    return Result(("knarr", *args), done.returncode, done.stdout, done.stderr)


def test_exec_from_a_cgroup_that_is_not_below_ones_own(
    user: Knarr, user_busybox: str, delegated: list[Path]
) -> None:
    one, other = delegated
    words = ("run", "-d", "--network", "none", user_busybox, "sleep", "1000")
    try:
        container = inside(user, one, *words).stdout.strip()
        assert (one / f"knarr-{container}").is_dir()
        assert inside(user, one, "exec", container, "echo", "works").stdout == "works\n"
        far = inside(user, other, "exec", container, "echo", "works")
        assert far.code == 125
        assert far.stderr.startswith(
            f"knarr: from cgroup /other you may not enter the container's, /one/knarr-{container}:"
        )
        assert len(far.stderr.splitlines()) == 2
    finally:
        user.clear()
