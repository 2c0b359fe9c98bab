"""The program twice: as it is shipped, and with sanitizers. Every test of this directory runs with both."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machine import REPOSITORY, Machine
from native.plans import Native, Rootfs

APPLETS = (
    "sh true false cat ls id mount sleep ps hostname grep tty stty kill echo yes head wc env "
    "stat readlink dd trap rm ulimit"
)


def _build(output: Path, *, sanitize: bool) -> Path:
    found = importlib.util.spec_from_file_location("knarr_native_build", REPOSITORY / "native" / "build.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.build(output, sanitize=sanitize)
    return output


@pytest.fixture(scope="session")
def programs(machine: Machine) -> dict[str, Path]:
    here = machine.state / "native"
    here.mkdir(mode=0o755, exist_ok=True)
    return {
        kind: _build(here / kind / "knarr-native", sanitize=kind == "sanitized")
        for kind in ("shipped", "sanitized")
    }


@pytest.fixture(params=["shipped", "sanitized"])
def native(request: pytest.FixtureRequest, programs: dict[str, Path], tmp_path: Path) -> Iterator[Native]:
    """The program; afterwards nothing of it runs, and no sanitizer has found anything."""
    findings = tmp_path / "findings"
    findings.mkdir(mode=0o1777)
    findings.chmod(0o1777)
    options = f"detect_leaks=0:log_path={findings}/report:exitcode=99"
    env = {
        "PATH": os.environ["PATH"],
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": f"print_stacktrace=1:{options}",
    }
    native = Native(programs[request.param], env)
    yield native
    native.end()
    assert not [p.read_text() for p in findings.iterdir()]


@pytest.fixture
def rootfs(tmp_path: Path) -> Rootfs:
    """On whatever holds pytest's directory; "
    "an overlay needs more than another overlay for its upper directory."""
    base = tmp_path / "rootfs"
    for name in ("lower/bin", "upper", "work", "root"):
        (base / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("this machine lacks: busybox")
    shutil.copy(busybox, base / "lower/bin/busybox")
    known = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in APPLETS.split():
        if name in known:
            (base / "lower/bin" / name).symlink_to("busybox")
    return Rootfs(base)
