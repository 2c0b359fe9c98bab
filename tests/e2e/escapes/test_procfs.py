"""CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-52881: a /proc that is not one.

What a runtime writes through procfs (labels, sysctls, scores) and what it masks there is only as good as the procfs is.
An image makes /proc or /sys a link, or brings a volume for it; another container swaps what lies at those paths.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.escapes.conftest import MARKER, UNTOUCHED, Host
from e2e.escapes.engines import PATIENCE_S, Engine, RuntimeEngine, config_of
from harness.command import Knarr
from harness.images import layer_of, make_image, write_archive
from harness.wait import soon

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "cc"), pytest.mark.timeout(300)]

SYSCTL = "net.ipv4.ip_forward"
FILE = "net/ipv4/ip_forward"
MASKED = "/proc/keys"


def linked(name: str, to: str) -> Callable[[Path], None]:
    """The image's /proc or /sys is a link to a directory that looks like one."""

    def change(root: Path) -> None:
        (root / name).rmdir()
        (root / name).symlink_to(to)
        for folder in ("fake/sys/kernel", "fake/self/attr", "fake/firmware"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "fake/keys").write_text("forged")

    return change


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("to", ["/fake", "fake", "/tmp/../fake", "/missing"])
def test_proc_is_a_link(engine: Engine, host: Host, name: str, to: str) -> None:
    """It does not start: what is masked later would be the forgery, and the real one open somewhere else."""
    result = engine.run(engine.image(linked(name, to)), "cat", MASKED)
    assert result.code != 0 and not result.stdout, str(result)
    assert f"/{name}" in result.stderr


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_the_hosts_proc_on_a_link(bundles: RuntimeEngine, host: Host, name: str) -> None:
    """CVE-2023-28642: it is bound, not mounted, as for a container that shares the host's processes."""
    config = config_of("cat", "/fake/keys")
    bind = {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind"]}
    config["mounts"] = [bind if m["destination"] == f"/{name}" else m for m in config["mounts"]]
    bundle = bundles.bundle(bundles.image(linked(name, "/fake")), config=config)
    result = bundles.runtime("run", "-b", str(bundle), "one")
    assert result.code != 0 and not result.stdout, str(result)
    assert f"/{name}" in result.stderr


def forged(folder: Path, host: Host) -> Path:
    """What a forger would put below /proc: files that lead the runtime's writes elsewhere."""
    (folder / "sys/net/ipv4").mkdir(parents=True)
    (folder / "sys" / FILE).symlink_to(host.target)
    (folder / "self/attr").mkdir(parents=True)
    (folder / "keys").write_text("forged")
    return folder


def forwards(pid: int) -> str:
    """The real value, in the network namespace of a process."""
    words = ["nsenter", "-t", str(pid), "-n", "cat", f"/proc/sys/{FILE}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_a_sysctl_is_not_written_to_a_forgery(engine: Engine, host: Host, tmp_path: Path) -> None:
    """The end of CVE-2025-52881's race: the forgery lies over /proc, whatever was there when it was looked at."""
    volumes = [(forged(tmp_path / "forged", host), "/proc")]
    container = engine.start(engine.image(), "sleep", "1000", volumes=volumes, sysctl={SYSCTL: "1"})
    assert forwards(container.pid) == "1"
    container.end()
    assert host.target.read_text() == UNTOUCHED


def test_proc_is_a_volume_of_the_image(
    knarr: Knarr, host: Host, busybox_rootfs: Path, tmp_path: Path
) -> None:
    """CVE-2019-16884: VOLUME /proc in an image, its content chosen by the image."""
    root = tmp_path / "root"
    shutil.copytree(busybox_rootfs, root, symlinks=True)
    forged(root / "proc/forged", host)
    image = make_image([layer_of(root)], Volumes={"/proc": {}}, Cmd=["sleep", "1000"])
    knarr.ok("load", "-i", str(write_archive(image, "localhost/volume:1", tmp_path / "i.tar")))
    cid = knarr.ok("run", "-d", "--network=none", f"--sysctl={SYSCTL}=1", "localhost/volume:1")
    assert forwards(int(knarr.ok("inspect", "--format", "{{.State.Pid}}", cid))) == "1"
    knarr.ok("rm", "-f", "-v", cid)


def test_a_swapped_proc(engine: Engine, host: Host, attacker: Path, tmp_path: Path) -> None:
    """/proc is a link into a shared volume, in which another container exchanges what it leads to."""
    volume = tmp_path / "volume"
    for name in ("d", "l"):
        forged(volume / name, host)

    def armed(root: Path) -> None:
        shutil.copy(attacker, root / "bin/attacker")

    container = engine.start(
        engine.image(armed), "/bin/attacker", "swap", "/v/d", "/v/l", volumes=[(volume, "/v")]
    )
    assert soon(PATIENCE_S, lambda: "ready" in container.output())

    def links(root: Path) -> None:
        (root / "proc").rmdir()
        (root / "proc").symlink_to("/v/d")

    image = engine.image(links)
    for _ in range(5):
        result = engine.run(
            image, "sh", "-c", "cat /proc/kcore /v/*/kcore | head -c1", volumes=[(volume, "/v")]
        )
        assert result.code != 0 and not result.stdout, str(result)
    container.end()


def test_what_is_masked_stays_so(engine: Engine) -> None:
    """Root inside may not take the masks off, nor write what is read-only."""
    script = (
        f"umount {MASKED}; umount /proc/kcore; umount /sys/firmware; mount -o remount,rw /proc/sys; "
        f"mount -t proc proc /tmp; cat {MASKED}; head -c1 /proc/kcore; ls /sys/firmware /tmp; "
        "echo '|/x' >/proc/sys/kernel/core_pattern; echo h >/proc/sysrq-trigger; "
        "echo 1 >/proc/1/root/proc/sys/kernel/randomize_va_space"
    )
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = engine.run(engine.image(), "sh", "-c", f"({script}) 2>/dev/null; echo end")
    lines = [line for line in result.stdout.splitlines() if line not in ("/sys/firmware:", "/tmp:", "")]
    assert lines == ["end"], str(result)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_the_masks_are_what_hides(bundles: RuntimeEngine) -> None:
    """Without them the same words show something."""
    config = config_of("sh", "-c", f"cat {MASKED}; ls /sys/firmware")
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    result = bundles.runtime("run", "-b", str(bundles.bundle(bundles.image(), config=config)), "one")
    assert result.stdout, str(result)


def test_the_forgery_would_be_believed(host: Host, tmp_path: Path) -> None:
    """Who writes by the container's path writes to the host's file: the forgery is one."""
    folder = forged(tmp_path / "forged", host)
    (folder / "sys" / FILE).write_text("1")
    assert host.target.read_text() == "1" and host.secret.read_text() == MARKER
    host.target.write_text(UNTOUCHED)
