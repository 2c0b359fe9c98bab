"""Reading a stack of layers without mounting it finds what the kernel's overlay shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from knarr.host.rootfiles import read_in_root


@pytest.mark.requires("root", "overlay")
def test_the_same_as_overlay(tmp_path: Path) -> None:
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for folder in (lower, upper, work, merged):
        folder.mkdir()
    for name in ("etc/passwd", "etc/gone", "opaque/hidden", "plain/kept", "turned/file"):
        (lower / name).parent.mkdir(exist_ok=True)
        (lower / name).write_text(f"lower {name}")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        (merged / "etc/passwd").write_text("changed")
        (merged / "etc/gone").unlink()
        (merged / "opaque/hidden").unlink()
        (merged / "opaque").rmdir()
        (merged / "opaque").mkdir()
        (merged / "opaque/new").write_text("new")
        (merged / "turned/file").unlink()
        (merged / "turned").rmdir()
        (merged / "turned").symlink_to("plain")
        names = (
            "etc/passwd",
            "etc/gone",
            "opaque/hidden",
            "opaque/new",
            "plain/kept",
            "turned/file",
            "turned/kept",
        )
        for name in names:
            expected = (merged / name).read_bytes() if (merged / name).exists() else None
            assert read_in_root([str(upper), str(lower)], name, 1000) == expected, name
        assert os.listxattr(upper / "opaque") == ["trusted.overlay.opaque"]
    finally:
        subprocess.run(["umount", str(merged)], check=True)
