"""CVE-2021-30465, CVE-2024-45310: a mount point that is swapped for a link by another container.

Two containers share a volume. One exchanges a directory in it with a link to a place on the host, for ever; the other
is started with something mounted below that directory. Who resolves the path first and uses it afterwards mounts, or
makes the mount point, where the link leads: on the host, in whose root the set-up still is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from e2e.escapes.conftest import Host
from e2e.escapes.engines import PATIENCE_S, Engine, Running, RuntimeEngine
from harness.wait import soon

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "cc"), pytest.mark.timeout(300)]

ROUNDS = 12


def swapping(engine: Engine, attacker: Path, volume: Path, to: Path) -> Running:
    """A container that exchanges /v/d and /v/l for ever."""
    volume.mkdir()
    (volume / "d").mkdir()
    (volume / "l").symlink_to(to)

    def change(root: Path) -> None:
        shutil.copy(attacker, root / "bin/attacker")

    container = engine.start(
        engine.image(change), "/bin/attacker", "swap", "/v/d", "/v/l", volumes=[(volume, "/v")]
    )
    assert soon(PATIENCE_S, lambda: "ready" in container.output())
    return container


@pytest.mark.parametrize("up", ["", "../../../../../../../../.."])
def test_mount_points_below_a_swapped_directory(
    engine: Engine, host: Host, attacker: Path, tmp_path: Path, up: str
) -> None:
    target = Path(f"{up}{host.outside}/directory")
    container = swapping(engine, attacker, tmp_path / "volume", target)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mounted").touch()
    image, ran = engine.image(), 0
    for number in range(ROUNDS):
        volumes = [(tmp_path / "volume", "/v"), (other, f"/v/d/made{number}/deep")]
        result = engine.run(image, "sh", "-c", "cat /proc/self/mountinfo; echo ran", volumes=volumes)
        ran += "ran" in result.stdout
        host.check()
    container.end()
    assert ran, "none of them could start: nothing was tried"


def test_a_tmpfs_on_a_swapped_directory(engine: Engine, host: Host, attacker: Path, tmp_path: Path) -> None:
    """The first half of CVE-2021-30465: a mount that lands on the host's path changes what later sources are."""
    (host.outside / "directory").rmdir()
    shown = tmp_path / "shown"
    (shown / "inner").mkdir(parents=True)
    (shown / "inner/source").write_text("the real one")
    container = swapping(engine, attacker, tmp_path / "volume", shown)
    image, ran = engine.image(), 0
    for _ in range(ROUNDS):
        volumes = [(tmp_path / "volume", "/v")]
        # A tmpfs over /v/d/… is asked for before the bind whose source would be hidden by it.
        result = engine.run(
            image, "cat", "/check/source", volumes=[*volumes, (shown / "inner", "/check")], tmpfs=["/v/d"]
        )
        ran += result.code == 0
        assert result.code != 0 or result.stdout == "the real one", str(result)
    container.end()
    assert ran
    (host.outside / "directory").mkdir()


def test_the_attack_works_where_the_hole_is(old_runc: RuntimeEngine, attacker: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    container = swapping(old_runc, attacker, tmp_path / "volume", made)
    other = tmp_path / "other"
    other.mkdir()
    image, rounds = old_runc.image(), iter(range(100_000))

    def fooled() -> bool:
        volumes = [(tmp_path / "volume", "/v"), (other, f"/v/d/made{next(rounds)}/deep")]
        old_runc.run(image, "true", volumes=volumes)
        return bool(os.listdir(made))

    assert soon(PATIENCE_S, fooled)
    container.end()
