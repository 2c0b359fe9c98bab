"""`cli`: the command line with the busybox image in its store, once as root and once as an ordinary user."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.command import Knarr
from harness.images import BUSYBOX


@pytest.fixture(params=["root", "rootless"])
def cli(request: pytest.FixtureRequest, busybox_archive: Path) -> Knarr:
    """A test that uses this runs twice."""
    command: Knarr = request.getfixturevalue("knarr" if request.param == "root" else "user")
    command.ok("load", "-i", str(busybox_archive))
    return command


@pytest.fixture
def image() -> str:
    return BUSYBOX
