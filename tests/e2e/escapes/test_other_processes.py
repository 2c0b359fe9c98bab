"""CVE-2019-5736 (and CVE-2020-14298, its return), CVE-2016-9962: a container attacks who enters it.

For a moment a process that is half the host's is in the container's process namespace. What it is executed from can be
reached as /proc/PID/exe and overwritten once it has ended; its descriptors, its working directory and its root lead to
the host. The container waits for such a process in a tight loop, and makes it execute itself where it can.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.escapes.conftest import Host, careless
from e2e.escapes.engines import PATIENCE_S, Engine, RuntimeEngine
from harness.machine import REPOSITORY, Machine
from harness.wait import soon
from knarr.plan.capabilities import cap_names

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "cc"), pytest.mark.timeout(300)]

ROUNDS = 8


@pytest.fixture
def armed(attacker: Path) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.copy(attacker, root / "bin/attacker")
        (root / "bin/self").write_text("#!/proc/self/exe\n")
        (root / "bin/self").chmod(0o755)
        (root / "bin/again").symlink_to("/proc/self/exe")

    return change


def programs(sanitized: Path) -> dict[Path, bytes]:
    """What is executed on the host's side, as far as it is knarr's."""
    ours = [sanitized, REPOSITORY / "src/knarr/_native/knarr-native", *(REPOSITORY / "bin").iterdir()]
    return {path: path.read_bytes() for path in ours if path.is_file()}


def test_exec_into_a_container_that_waits_for_it(
    engine: Engine, host: Host, armed: Callable[[Path], None], sanitized: Path
) -> None:
    before = programs(sanitized)
    container = engine.start(engine.image(armed), "/bin/attacker", "race", str(host.secret))
    assert soon(PATIENCE_S, lambda: "ready" in container.output())
    for _ in range(ROUNDS):
        for words in (("true",), ("self",), ("again",), ("/proc/self/exe",), ("/proc/1/exe", "fds")):
            container.exec(*words)
    said = container.output()
    container.end()
    assert "escaped" not in said and "wrote" not in said, said
    assert programs(sanitized) == before


def test_a_container_whose_program_is_the_runtime(
    engine: Engine, armed: Callable[[Path], None], sanitized: Path
) -> None:
    """It gets the sealed copy, inside, and nothing can be written to that."""
    before = programs(sanitized)
    image = engine.image(armed)
    for words in (("/bin/self",), ("/bin/again",), ("/proc/self/exe", "init", "0")):
        result = engine.run(image, *words)
        assert result.code != 0, str(result)
    assert programs(sanitized) == before


def test_the_attacks_work_on_who_takes_no_care(
    bundles: RuntimeEngine, host: Host, armed: Callable[[Path], None], attacker: Path, machine: Machine
) -> None:
    """A program of the host runs inside, as it lies on disk, and a directory of the host is open."""
    victim = machine.state / "victim"
    shutil.copy(attacker, victim)
    # Who enters has all capabilities: only who has them too may look at it.
    mine = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    caps = [name.removeprefix("CAP_") for name in cap_names(mine)]
    image = bundles.image(armed)
    container = bundles.start(image, "/bin/attacker", "race", str(host.secret), caps=caps)
    assert soon(PATIENCE_S, lambda: "ready" in container.output())
    fd = os.open(host.outside, os.O_RDONLY | os.O_DIRECTORY)

    def seen_open() -> bool:
        """Whoever catches the program that enters before it is /bin/sleep is busy with that one, and comes too late."""
        careless(container, "/bin/sleep", "1", fds=(fd,))
        return "escaped by fd/" in container.output()

    assert soon(PATIENCE_S, seen_open), container.output()

    def overwritten() -> bool:
        program = os.open(victim, os.O_RDONLY)
        careless(container, f"/proc/self/fd/{program}", "wait", fds=(program,))
        os.close(program)
        return b"OVERWRITTEN" in victim.read_bytes()[:40]

    assert soon(PATIENCE_S, overwritten), container.output()
    os.close(fd)
    container.end()
    victim.unlink()
