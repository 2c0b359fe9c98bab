"""What a container writes is out of reach of the machine's other users: a setuid program of it would be one here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.machine import UID

pytestmark = pytest.mark.requires("root", "userns", "overlay")

SETUID = "cp /bin/busybox /busybox; cp /bin/busybox /data/; chmod 4755 /busybox /data/busybox"


def reached(path: Path) -> bool:
    """By somebody who has nothing to do with whose container it is."""
    words = [str(path), "true"]
    try:
        done = subprocess.run(words, user=UID + 1, group=UID + 1, extra_groups=[], check=False, cwd="/")
    except PermissionError:
        return False
    return done.returncode == 0


def test_a_setuid_program_is_not_reached_by_other_users(cli: Knarr, image: str) -> None:
    # As /var/lib may be, and a home directory.
    for directory in (cli.home, cli.root, cli.run):
        directory.chmod(0o755)
    words = ("run", "-d", "--network", "none", "-v", "vol:/data", image, "sh", "-c", f"{SETUID}; sleep 99")
    container = cli.ok(*words)
    cli.ok("exec", container, "sh", "-c", "until test -u /data/busybox; do sleep 0.01; done")
    found = [*cli.root.glob("containers/*/upper/busybox"), *cli.root.glob("volumes/*/_data/busybox")]
    assert len(found) == 2
    for path in found:
        assert path.stat().st_mode & 0o4000
        assert not reached(path)
    # It is the closed directories that keep them out, and the next command closes what was open.
    opened = [cli.root / "containers", cli.root / f"containers/{container}", cli.root / "volumes"]
    for directory in opened:
        directory.chmod(0o711)
    assert all(map(reached, found))
    cli.ok("create", image)
    assert not any(map(reached, found))
