"""CVE-2026-41579 and CVE-2026-47766 (/dev is a link), CVE-2026-88264 and CVE-2025-52565 (/dev/console),
CVE-2025-31133 and CVE-2026-88265 (/dev/null): what an image has in /dev.

The nodes and links of /dev are made before the host is out of sight. Where the image's own /dev stays visible, its
links must not lead what is made, removed, mounted or opened there to the host.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.escapes.conftest import MARKER, Host
from e2e.escapes.engines import PATIENCE_S, Engine, Running, RuntimeEngine, config_of
from harness.wait import soon

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "cc"), pytest.mark.timeout(300)]

ROUNDS = 10


def without_dev(*argv: str, masked: Sequence[str] = (), terminal: bool = False) -> dict[str, Any]:
    """Nothing is mounted on /dev, and only a devpts below it for who has a terminal."""
    config = config_of(*argv)
    kept = ("/proc", "/sys", "/dev/pts") if terminal else ("/proc", "/sys")
    config["mounts"] = [m for m in config["mounts"] if m["destination"] in kept]
    config["linux"]["maskedPaths"] += masked
    config["process"]["terminal"] = terminal
    return config


def dev_is_link(to: Path) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "dev").rmdir()
        (root / "dev").symlink_to(to)

    return change


def at_terminal(engine: RuntimeEngine, image: str, config: dict[str, Any]) -> tuple[int, str]:
    bundle = engine.bundle(image, config=config)
    ours, theirs = os.openpty()
    with engine.runtime.popen(
        "run", "--bundle", str(bundle), bundle.name, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], PATIENCE_S)[0] and (part := _read(ours)):
            said += part
        process.kill()
        code = process.wait(PATIENCE_S)
    os.close(ours)
    return code, said.decode(errors="replace")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""


# ---- /dev is a link ----


def test_dev_is_a_link_to_the_host(engine: Engine, host: Host) -> None:
    engine.run(engine.image(dev_is_link(host.outside / "directory")), "true")
    engine.run(
        engine.image(dev_is_link(Path("../../../../../..") / host.outside.relative_to("/") / "directory")),
        "true",
    )


def test_dev_is_a_link_and_nothing_is_mounted_there(
    bundles: RuntimeEngine, host: Host, tmp_path: Path
) -> None:
    (host.outside / "directory").rmdir()
    precious = host.outside / "directory"
    precious.mkdir()
    image = bundles.image(dev_is_link(precious))
    bundles.runtime("run", "-b", str(bundles.bundle(image, config=without_dev("true"))), "one")
    at_terminal(bundles, image, without_dev("true", terminal=True))


def test_dev_link_works_where_the_hole_is(old_runc: RuntimeEngine, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "ptmx").touch()
    image = old_runc.image(dev_is_link(precious))
    bundle = old_runc.bundle(image, config=without_dev("true"))
    old_runc.runtime("run", "-b", str(bundle), "one")
    assert os.listdir(precious) != ["ptmx"] or (precious / "ptmx").is_symlink()


# ---- /dev/console ----


def console_is_link(to: Path) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "dev/console").symlink_to(to)

    return change


def test_console_is_a_link_to_the_host(bundles: RuntimeEngine, host: Host) -> None:
    """Neither made where it points to, nor mounted over."""
    for to in (host.outside / "made", host.target, Path("/proc/sys/kernel/core_pattern")):
        image = bundles.image(console_is_link(to))
        script = "echo terminal is $(tty); cat /proc/sys/kernel/core_pattern"
        code, said = at_terminal(bundles, image, without_dev("sh", "-c", script, terminal=True))
        assert MARKER not in said
        assert code != 0 or "terminal is /dev/pts/0" in said, said
        host.check()


def test_the_terminal_is_no_forgery(bundles: RuntimeEngine, host: Host) -> None:
    """/dev/pts of the image, where no devpts is mounted: its ptmx could be anything."""

    def change(root: Path) -> None:
        (root / "dev/pts").mkdir()
        (root / "dev/pts/ptmx").symlink_to(host.target)
        (root / "dev/ptmx").symlink_to("/dev/pts/ptmx")

    config = without_dev("sh", "-c", "echo written", terminal=True)
    config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/dev/pts"]
    code, said = at_terminal(bundles, bundles.image(change), config)
    assert code != 0 and "/dev/pts/ptmx" in said, said


# ---- /dev/null ----

HIDDEN = "/proc/version"
SHOWS = "/proc/sys/kernel/ostype"


def null_is_link(to: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "dev/null").symlink_to(to)

    return change


@pytest.mark.parametrize("to", [SHOWS, "missing", "/proc/self/fd/0"])
def test_null_is_a_link(bundles: RuntimeEngine, host: Host, to: str) -> None:
    """What is masked shows nothing, whatever the image calls /dev/null."""
    image = bundles.image(null_is_link(to))
    script = f"cat {HIDDEN}; stat -c %t:%T {HIDDEN} /dev/null; echo more >{HIDDEN}; cat {HIDDEN}"
    bundle = bundles.bundle(image, config=without_dev("sh", "-c", script, masked=[HIDDEN]))
    result = bundles.runtime("run", "-b", str(bundle), "one")
    assert (result.code, result.stdout) == (0, "1:3\n1:3\n"), str(result)


def test_null_is_a_link_to_a_file_of_the_host(bundles: RuntimeEngine, host: Host) -> None:
    """Standard input that is closed is /dev/null: the host's, not what the image calls so."""
    image = bundles.image(null_is_link(str(host.secret)))
    bundle = bundles.bundle(image, config=without_dev("sh", "-c", "cat; echo x >/dev/null"))
    closed = {"stdin": None, "preexec_fn": lambda: os.close(0)}
    with bundles.runtime.popen("run", "-b", str(bundle), "one", stdout=-1, stderr=-1, **closed) as process:
        out, err = process.communicate(timeout=60)
    assert MARKER not in (out + err).decode()


def swapped_null(engine: Engine, attacker: Path, dev: Path) -> Running:
    dev.mkdir()
    os.mknod(dev / "null", 0o666 | 0o020000, os.makedev(1, 3))
    (dev / "link").symlink_to(SHOWS)

    def change(root: Path) -> None:
        shutil.copy(attacker, root / "bin/attacker")

    container = engine.start(
        engine.image(change), "/bin/attacker", "swap", "/v/null", "/v/link", volumes=[(dev, "/v")]
    )
    assert soon(PATIENCE_S, lambda: "ready" in container.output())
    return container


def masked_by(engine: RuntimeEngine, image: str, dev: Path) -> str:
    config = without_dev("cat", HIDDEN, masked=[HIDDEN])
    config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(dev), "options": ["bind"]})
    bundle = engine.bundle(image, config=config)
    result = engine.runtime("run", "-b", str(bundle), bundle.name)
    return result.stdout if result.code == 0 else ""


def test_null_is_swapped_while_paths_are_masked(
    bundles: RuntimeEngine, attacker: Path, tmp_path: Path
) -> None:
    container = swapped_null(bundles, attacker, tmp_path / "dev")
    image = bundles.image()
    shown = {masked_by(bundles, image, tmp_path / "dev") for _ in range(ROUNDS)}
    container.end()
    assert shown == {""}


def test_the_swap_works_where_the_hole_is(old_runc: RuntimeEngine, attacker: Path, tmp_path: Path) -> None:
    container = swapped_null(old_runc, attacker, tmp_path / "dev")
    image = old_runc.image()
    assert soon(PATIENCE_S, lambda: masked_by(old_runc, image, tmp_path / "dev") != "")
    container.end()
