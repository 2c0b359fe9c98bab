"""CVE-2024-9676 (files of users are links), CVE-2022-23648 and CVE-2018-15664's kind (volumes filled from where an
image says), CVE-2026-53488 (what an image says of itself is not believed), CVE-2020-15257 (sockets without a file),
CVE-2021-41091 (other users of the host; see test_closed.py and the runtime's test_other_users.py too).
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.escapes.conftest import MARKER, Host
from e2e.escapes.engines import Engine
from harness.command import Knarr
from harness.images import layer_of, make_image, write_archive

pytestmark = [pytest.mark.requires("root", "overlay", "busybox"), pytest.mark.timeout(300)]

NAME = "localhost/hostile-files:1"


@pytest.fixture
def load(knarr: Knarr, busybox_rootfs: Path, tmp_path: Path) -> Callable[..., str]:
    def make(change: Callable[[Path], object] = lambda root: None, **config: Any) -> str:
        root = tmp_path / "image"
        shutil.copytree(busybox_rootfs, root, symlinks=True)
        change(root)
        image = make_image([layer_of(root)], **config)
        knarr.ok("load", "-i", str(write_archive(image, NAME, tmp_path / "image.tar")))
        return NAME

    return make


def test_passwd_is_a_link_to_the_host(engine: Engine, host: Host) -> None:
    """Neither read (a user who is only in the host's file) nor waited for (a FIFO)."""
    host.secret.write_text(f"{MARKER}\nsecretuser:x:4242:4242::/secret:/bin/sh\n")
    fifo = host.outside.with_name("fifo")
    os.mkfifo(fifo)
    try:
        for to in (
            host.secret,
            Path(f"../../../../../../..{host.secret}"),
            fifo,
            Path("/dev/zero"),
            Path("/proc/self/fd/0"),
        ):

            def change(root: Path, to: Path = to) -> None:
                for name in ("passwd", "group"):
                    (root / "etc" / name).unlink()
                    (root / "etc" / name).symlink_to(to)

            image = engine.image(change)
            result = engine.run(image, "echo", "here", user="4242:4242")
            assert "secretuser" not in result.stdout + result.stderr, str(result)
            if engine.name == "knarr":
                assert engine.run(image, "echo", "here", user="secretuser").code != 0
            container = engine.start(image, "sleep", "1000")
            assert "secret" not in container.exec("sh", "-c", "echo $HOME", user="4242").stdout
            container.end()
    finally:
        fifo.unlink()
        host.secret.write_text(MARKER)


@pytest.mark.parametrize("way", ["{}", "/../../../../../../../..{}", "/x/../../../../../../../..{}"])
def test_a_volume_is_not_filled_from_the_host(
    knarr: Knarr, host: Host, load: Callable[..., str], way: str
) -> None:
    image = load(Volumes={way.format(host.outside): {}}, Cmd=["sh", "-c", "cat $(find / -xdev -name secret)"])
    result = knarr("run", "--rm", "--network=none", image, "sh", "-c", "find / -name secret | xargs cat")
    assert MARKER not in result.stdout, str(result)


def test_a_volume_on_a_link_of_the_image(knarr: Knarr, host: Host, load: Callable[..., str]) -> None:
    image = load(lambda root: (root / "data").symlink_to(host.outside))
    result = knarr("run", "--rm", "--network=none", "-v", "named:/data", image, "ls", "-a", "/data/")
    assert "secret" not in result.stdout, str(result)
    knarr("run", "--rm", "--network=none", "-v", "named:/data", image, "sh", "-c", "echo x >/data/target")
    host.check()
    shutil.rmtree(knarr.root / "volumes" / "named")


def test_labels_are_not_orders(knarr: Knarr, host: Host, load: Callable[..., str]) -> None:
    """Annotations steer runtimes (hooks' output, handlers, devices). What an image says must not become one."""
    path = host.outside / "made"
    labels = {
        "run.oci.hooks.stdout": str(path),
        "run.oci.hooks.stderr": str(path),
        "run.oci.handler": "krun",
        "org.systemd.property.ExecStart": "true",
        "knarr.privileged": "true",
    }
    image = load(Labels=labels, Annotations=labels)
    shown = knarr.ok("run", "--network=none", "--print-spec", image, "true")
    assert "annotations" not in shown or not any(
        name in shown.partition("annotations")[2] for name in labels
    ), shown


def test_no_socket_without_a_file(knarr: Knarr, load: Callable[..., str]) -> None:
    """A container in the host's network namespace sees the host's abstract sockets: none of knarr's is one."""
    image = load()
    other = socket.socket(socket.AF_UNIX)
    other.bind("\0knarr-test-abstract")
    other.listen()
    cid = knarr.ok("run", "-d", "--network=host", image, "sleep", "1000")
    seen = [line.split()[-1] for line in knarr.ok("exec", cid, "cat", "/proc/net/unix").splitlines()]
    knarr.ok("rm", "-f", cid)
    other.close()
    abstract = [name for name in seen if name.startswith("@")]
    assert "@knarr-test-abstract" in abstract, "the test looks in the wrong place"
    assert [name for name in abstract if cid in name or "knarr" in name] == ["@knarr-test-abstract"]
