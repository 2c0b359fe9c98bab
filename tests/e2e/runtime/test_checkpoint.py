"""Checkpoint and restore through criu: what a container was doing goes on, with everything it had."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.runtime import Bundle, Runtime
from harness.wait import soon

pytestmark = pytest.mark.requires("root", "busybox", "criu")
# A file of the host's is nothing that criu could find again.
PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
QUIET: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done"


@pytest.fixture(autouse=True)
def with_criu(runtime: Runtime) -> None:
    runtime.flags = ("--criu", shutil.which("criu") or "criu")


def started(runtime: Runtime, bundle: str, container_id: str = "c1") -> None:
    create = runtime.popen("create", "-b", bundle, container_id, **QUIET)
    assert create.wait(60) == 0
    runtime.ok("start", container_id)


def count(runtime: Runtime) -> int:
    return int(runtime("exec", "c1", "cat", "/tmp/n").stdout or 0)


@pytest.fixture
def bundle(bundle: Bundle) -> Bundle:
    """Whatever configuration of criu this machine has."""
    return functools.partial(bundle, annotations={"org.criu.config": ""})


def images(runtime: Runtime) -> str:
    return str(runtime.home / "images")


def test_it_goes_on_where_it_was(runtime: Runtime, bundle: Bundle) -> None:
    made = bundle("sh", "-c", COUNT)
    started(runtime, made)
    assert soon(20, lambda: count(runtime) > 3)
    before = count(runtime)
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    assert not list(runtime.containers.iterdir())
    pid_file = runtime.home / "pid"
    restored = runtime.popen(
        "restore", "-d", "-b", made, "--image-path", images(runtime), "--pid-file", str(pid_file), "c1",
        **QUIET,
    )  # fmt: skip
    assert restored.wait(60) == 0
    state = runtime.state("c1")
    assert state["status"] == "running" and pid_file.read_text() == str(state["pid"])
    assert before <= count(runtime) < before + 100 and soon(20, lambda: count(runtime) > before + 3)
    runtime.ok("delete", "--force", "c1")


def test_it_may_go_on_beside_its_images(runtime: Runtime, bundle: Bundle) -> None:
    started(runtime, bundle("sh", "-c", COUNT))
    work = runtime.home / "work"
    runtime.ok(
        "checkpoint", "--leave-running", "--image-path", images(runtime), "--work-path", str(work), "c1"
    )
    assert runtime.status("c1") == "running" and (work / "dump.log").exists()
    before = count(runtime)
    assert soon(20, lambda: count(runtime) > before)


def test_what_is_the_hosts_is_found_again(runtime: Runtime, bundle: Bundle) -> None:
    """A bind mount that lies elsewhere now, masked files, a pipe that somebody reads, limits."""
    shared = runtime.home / "shared"
    shared.mkdir()
    (shared / "file").write_text("first\n")

    def change(config: dict[str, Any]) -> None:
        options = {"type": "bind", "options": ["bind", "ro"]}
        config["mounts"] += [
            {"destination": "/tmp/dir", "source": str(shared), **options},
            {"destination": "/tmp/file", "source": str(shared / "file"), **options},
        ]

    program = "trap 'cat /tmp/dir/file; cat /proc/kcore | wc -c; exit 7' USR1; while :; do sleep 0.1; done"
    made = bundle("sh", "-c", program, change=change, linux={"resources": {"pids": {"limit": 50}}})
    running = runtime.popen("run", "-b", made, "c1", **PIPES)
    assert soon(20, lambda: runtime("state", "c1").code == 0 and runtime.status("c1") == "running")
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    running.communicate(timeout=30)
    (shared / "file").write_text("second\n")
    back = runtime.popen("restore", "-b", made, "--image-path", images(runtime), "c1", **PIPES)
    assert soon(20, lambda: runtime("state", "c1").code == 0 and runtime.status("c1") == "running")
    assert len(runtime.ok("ps", "-f", "json", "c1").split(",")) >= 1
    runtime.ok("kill", "c1", "USR1")
    out, _ = back.communicate(timeout=30)
    assert (out, back.returncode) == (b"second\n0\n", 7)
    assert not list(runtime.containers.iterdir())


def test_its_terminal_is_handed_over(runtime: Runtime, bundle: Bundle) -> None:
    made = bundle("sh", "-c", "while read line; do echo got $line; done", process={"terminal": True})
    path = str(runtime.home / "console")
    console = socket.socket(socket.AF_UNIX)
    console.bind(path)
    console.listen(2)

    def master() -> int:
        connection, _ = console.accept()
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        connection.close()
        return fds[0]

    creating = runtime.popen("create", "-b", made, "--console-socket", path, "c1")
    first = master()
    assert creating.wait(30) == 0
    runtime.ok("start", "c1")
    os.write(first, b"one\n")
    read_until(first, b"got one")
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    restoring = runtime.popen(
        "restore", "-d", "-b", made, "--image-path", images(runtime), "--console-socket", path, "c1"
    )
    second = master()
    assert restoring.wait(30) == 0
    os.write(second, b"two\n")
    read_until(second, b"got two")
    runtime.ok("delete", "--force", "c1")
    for fd in (first, second):
        os.close(fd)
    console.close()


def read_until(fd: int, wanted: bytes) -> None:
    said = b""
    while wanted not in said:
        said += os.read(fd, 4096)


def test_a_user_namespace(runtime: Runtime, bundle: Bundle, busybox_rootfs: Path) -> None:
    maps = [{"containerID": 0, "hostID": 2_000_000, "size": 1000}]
    kinds = [{"type": k} for k in ("pid", "mount", "ipc", "uts", "network", "user")]
    made = bundle("sh", "-c", COUNT, linux={"namespaces": kinds, "uidMappings": maps, "gidMappings": maps})
    started(runtime, made)
    assert soon(20, lambda: count(runtime) > 1)
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    restored = runtime.popen("restore", "-d", "-b", made, "--image-path", images(runtime), "c1", **QUIET)
    assert restored.wait(60) == 0
    before = count(runtime)
    assert soon(20, lambda: count(runtime) > before)


def test_the_hosts_network_namespace(runtime: Runtime, bundle: Bundle) -> None:
    kinds = [{"type": k} for k in ("pid", "mount", "ipc", "uts")]
    kinds.append({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    made = bundle("sh", "-c", COUNT, linux={"namespaces": kinds})
    started(runtime, made)
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    restored = runtime.popen("restore", "-d", "-b", made, "--image-path", images(runtime), "c1", **QUIET)
    assert restored.wait(60) == 0
    own = os.readlink("/proc/self/ns/net")
    assert os.readlink(f"/proc/{runtime.state('c1')['pid']}/ns/net") == own


@pytest.mark.requires("criu-mem-track")
def test_memory_ahead(runtime: Runtime, bundle: Bundle) -> None:
    started(runtime, bundle("sh", "-c", COUNT))
    runtime.ok("checkpoint", "--pre-dump", "--image-path", str(runtime.home / "pre"), "c1")
    assert runtime.status("c1") == "running"
    runtime.ok("checkpoint", "--parent-path", "../pre", "--image-path", images(runtime), "c1")
    assert (runtime.home / "images/parent").exists()


def test_hooks_of_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    said = runtime.home / "said"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >>{said}; echo >>{said}"]}
    made = bundle("sh", "-c", COUNT, hooks={"createRuntime": [hook], "poststop": [hook]})
    started(runtime, made)
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    runtime.popen("restore", "-d", "-b", made, "--image-path", images(runtime), "c1", **QUIET).wait(60)
    assert len(said.read_text().splitlines()) == 3  # created, gone, back


def test_what_cannot_be(runtime: Runtime, bundle: Bundle) -> None:
    made = bundle("sh", "-c", COUNT)
    assert runtime.popen("create", "-b", made, "c1", **QUIET).wait(30) == 0
    done = runtime("checkpoint", "--image-path", images(runtime), "c1")
    assert done.code == 1 and "cannot checkpoint container 'c1': it is created" in done.stderr
    done = runtime("restore", "-b", made, "--image-path", str(runtime.home / "none"), "c2")
    assert done.code == 1 and "holds no checkpoint" in done.stderr
    runtime.ok("start", "c1")
    runtime.ok("checkpoint", "--leave-running", "--image-path", images(runtime), "c1")
    done = runtime("restore", "-d", "-b", made, "--image-path", images(runtime), "c1")
    assert done.code == 1 and "already exists" in done.stderr
    os.unlink(f"{images(runtime)}/pstree.img")
    done = runtime("restore", "-d", "-b", made, "--image-path", images(runtime), "c3")
    assert done.code == 1 and "could not bring back container 'c3'" in done.stderr
    assert not (runtime.containers / "c3").exists()


def test_killed_midway(runtime: Runtime, bundle: Bundle) -> None:
    """A restore that dies leaves nothing that delete could not take away; criu goes with it."""
    killer = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}
    made = bundle("sh", "-c", COUNT, hooks={"createRuntime": [killer]})
    started(runtime, bundle("sh", "-c", COUNT))
    runtime.ok("checkpoint", "--image-path", images(runtime), "c1")
    restoring = runtime.popen("restore", "-d", "-b", made, "--image-path", images(runtime), "c1", **QUIET)
    assert restoring.wait(30) == -signal.SIGKILL
    runtime.ok("delete", "--force", "c1")
    assert not list(runtime.containers.iterdir())
