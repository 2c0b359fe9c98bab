"""Attacks are written once and run against every way to start a container.

`engine` is `knarr` with an image made from a hostile root filesystem, and `knarr-runtime` with a bundle whose root is
that filesystem (its native program under sanitizers). `host` is what must not be reached: a directory with a file in it
that no container is given. An attack that is not seen to work anywhere proves little, so most tests have a second half
that takes the guard away: a peer of a version that still has the hole, or `careless`, which enters a container as a
runtime would that takes no care.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.escapes.engines import Engine, KnarrEngine, Peer, Running, RuntimeEngine
from harness.capabilities import SKIPPED
from harness.machine import REPOSITORY, Machine, remove_tree
from harness.runtime import Runtime

MARKER = "nothing in a container may read this"
UNTOUCHED = "nothing in a container may change this"


class Host(NamedTuple):
    """`outside` is the host's. `secret` is readable in it, `target` is what an attack would like to change."""

    outside: Path

    @property
    def secret(self) -> Path:
        return self.outside / "secret"

    @property
    def target(self) -> Path:
        return self.outside / "target"

    def check(self) -> None:
        """Nothing was made there, nothing changed, nothing taken away."""
        assert sorted(os.listdir(self.outside)) == ["directory", "secret", "target"]
        assert os.listdir(self.outside / "directory") == []
        assert self.secret.read_text() == MARKER
        assert self.target.read_text() == UNTOUCHED
        assert self.target.stat().st_uid == 0


@pytest.fixture
def host(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Host]:
    """Afterwards it is as it was."""
    outside = machine.state / "outside"
    (outside / "directory").mkdir(parents=True)
    there = Host(outside)
    there.secret.write_text(MARKER)
    there.target.write_text(UNTOUCHED)
    yield there
    try:
        there.check()
    finally:
        shutil.rmtree(outside)


@pytest.fixture(scope="session")
def attacker(machine: Machine) -> Path:
    """The attacks that have to be fast, compiled."""
    program = machine.state / "attacker"
    source = Path(__file__).with_name("attacker.c")
    subprocess.run(["cc", "-O1", "-static", "-o", program, source], check=True)
    return program


@pytest.fixture(scope="session")
def sanitized(machine: Machine) -> Path:
    """knarr-native with sanitizers."""
    found = importlib.util.spec_from_file_location("native_build", REPOSITORY / "native" / "build.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    program = machine.state / "sanitized" / "knarr-native"
    module.build(program, sanitize=True)
    return program


@pytest.fixture(params=["knarr", "knarr-runtime"])
def engine(request: pytest.FixtureRequest, busybox_rootfs: Path, tmp_path: Path) -> Engine:
    if request.param == "knarr":
        return KnarrEngine(request.getfixturevalue("knarr"), busybox_rootfs, tmp_path)
    made: RuntimeEngine = request.getfixturevalue("bundles")
    return made


@pytest.fixture
def bundles(
    runtime: Runtime, busybox_rootfs: Path, sanitized: Path, tmp_path: Path
) -> Iterator[RuntimeEngine]:
    """`knarr-runtime` alone, for attacks that only an own config.json makes possible. No sanitizer finds anything."""
    findings = tmp_path / "findings"
    findings.mkdir()
    runtime.env["KNARR_NATIVE"] = str(sanitized)
    options = f"detect_leaks=0:log_path={findings}/report:exitcode=99"
    runtime.env |= {"ASAN_OPTIONS": options, "UBSAN_OPTIONS": f"print_stacktrace=1:{options}"}
    yield RuntimeEngine("knarr-runtime", runtime, busybox_rootfs, tmp_path)
    runtime.clear()
    assert not [p.read_text() for p in findings.iterdir()]


@pytest.fixture
def old_runc(machine: Machine, busybox_rootfs: Path, tmp_path: Path) -> Iterator[RuntimeEngine]:
    """A runc that has the holes of late 2024 and later: what works against it is an attack."""
    if shutil.which("runc") is None:
        pytest.skip(f"{SKIPPED}runc")
    said = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True).stdout.split()
    version = next(word for word in said if word[0].isdigit())
    if tuple(int(n) for n in version.partition("+")[0].split(".")) >= (1, 1, 14):
        pytest.skip(f"{SKIPPED}a runc older than 1.1.14")
    peer = Peer(machine.state / "old-runc", "runc")
    try:
        yield RuntimeEngine("old-runc", peer, busybox_rootfs, tmp_path)
        peer.clear()
    finally:
        remove_tree(peer.home)


def careless(container: Running, *argv: str, fds: Sequence[int] = ()) -> str:
    """Enters the container with nsenter(1), which closes nothing and checks nothing; what the program prints.

    With a copy of it: the attack on it succeeds, and the machine's own is not to be the one that is overwritten.
    """
    with tempfile.TemporaryDirectory(prefix="knarr-careless-") as directory:
        program = shutil.copy2(str(shutil.which("nsenter")), directory)
        return _entered(str(program), container, argv, fds)


def _entered(program: str, container: Running, argv: Sequence[str], fds: Sequence[int]) -> str:
    words = [program, "-t", str(container.pid), "-m", "-p", "-i", "-u", "-n", "--", *argv]
    return subprocess.run(
        words, pass_fds=fds, capture_output=True, text=True, errors="replace", timeout=30
    ).stdout
