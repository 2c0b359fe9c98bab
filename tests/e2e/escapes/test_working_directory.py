"""CVE-2024-21626: a working directory or a program named by a descriptor that leads out of the container.

Whoever starts a container may have left a directory of the host open, or the runtime itself has one: `/proc/self/fd/N`
then names it from inside. A process whose working directory it is can walk up to the host's root.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from e2e.escapes.conftest import MARKER, Host, careless
from e2e.escapes.engines import Engine

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "cc"), pytest.mark.timeout(300)]

# The caller's own come first, then what the runtime opens.
NUMBERS = range(3, 11)


@pytest.fixture
def leaked(host: Host) -> Any:
    """Options of a start whose caller leaves a directory of the host open."""
    fd = os.open(host.outside, os.O_RDONLY | os.O_DIRECTORY)
    high = os.dup(fd)
    yield {"options": {"pass_fds": (fd, high)}}
    os.close(fd)
    os.close(high)


def reads(host: Host) -> tuple[str, ...]:
    """Walks up from wherever it stands, and from the directory itself."""
    up = "../" * 12 + str(host.secret).lstrip("/")
    return ("sh", "-c", f"cat secret 2>/dev/null; cat {up} 2>/dev/null; echo walked")


def links(root: Path) -> None:
    for number in NUMBERS:
        (root / f"w{number}").symlink_to(f"/proc/self/fd/{number}")


def test_run_in_a_descriptor(engine: Engine, host: Host, leaked: Any) -> None:
    image = engine.image(links)
    for number in NUMBERS:
        for cwd in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../..", f"/w{number}"):
            result = engine.run(image, *reads(host), cwd=cwd, **leaked)
            assert MARKER not in result.stdout, str(result)
            assert result.code != 0, f"it has started there: {result}"


def test_exec_in_a_descriptor(engine: Engine, host: Host, leaked: Any) -> None:
    container = engine.start(engine.image(links), "sleep", "1000")
    for number in NUMBERS:
        for cwd in (f"/proc/self/fd/{number}", f"/w{number}", f"/proc/1/fd/{number}"):
            result = container.exec(*reads(host), cwd=cwd, **leaked["options"])
            assert MARKER not in result.stdout and result.code != 0, str(result)
    container.end()


def test_a_program_behind_a_descriptor(engine: Engine, host: Host, leaked: Any) -> None:
    """The third form: the program itself is one of the host's, and can be overwritten while it runs."""
    up = "../" * 12
    image = engine.image()
    for number in NUMBERS:
        result = engine.run(image, f"/proc/self/fd/{number}/{up}bin/cat", str(host.secret), **leaked)
        assert MARKER not in result.stdout and result.code in (1, 126, 127), str(result)


def test_no_descriptor_of_the_caller_arrives(engine: Engine, host: Host, leaked: Any, attacker: Path) -> None:
    def change(root: Path) -> None:
        (root / "bin/attacker").write_bytes(attacker.read_bytes())
        (root / "bin/attacker").chmod(0o755)

    image = engine.image(change)
    shown = engine.run(image, "/bin/attacker", "fds", **leaked).stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["0", "1", "2"], shown
    container = engine.start(image, "sleep", "1000")
    shown = container.exec("/bin/attacker", "fds", **leaked["options"]).stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["0", "1", "2"], shown
    container.end()


def test_the_attack_works_on_who_takes_no_care(engine: Engine, host: Host) -> None:
    container = engine.start(engine.image(), "sleep", "1000")
    fd = os.open(host.outside, os.O_RDONLY | os.O_DIRECTORY)
    script = f"cd /proc/self/fd/{fd} && {reads(host)[2]}"
    assert MARKER in careless(container, "/bin/sh", "-c", script, fds=(fd,))
    os.close(fd)
    container.end()
