"""The same container as a bare bundle for runc and crun: `runc spec`, no terminal, this machine's busybox."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def bare_bundle(argv: Sequence[str]) -> Iterator[Path]:
    """A directory with rootfs/ and config.json, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="knarr-bench-") as made:
        bundle = Path(made)
        busybox_rootfs(bundle / "rootfs")
        if shutil.which("runc"):
            subprocess.run(["runc", "spec"], cwd=bundle, check=True)
            config = json.loads((bundle / "config.json").read_text())
            config["process"].update(terminal=False, args=list(argv))
            (bundle / "config.json").write_text(json.dumps(config))
        yield bundle


def busybox_rootfs(rootfs: Path) -> None:
    """Debian's static busybox, a link per applet, and nothing else."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("busybox is not installed: Debian's busybox-static")
    for folder in ("bin", "etc", "dev", "proc", "sys", "tmp"):
        (rootfs / folder).mkdir(parents=True)
    shutil.copy2(program, rootfs / "bin/busybox")
    for applet in subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
