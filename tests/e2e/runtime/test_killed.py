"""SIGKILL of a command at every system call that changes something: nothing stray, `delete --force` always cleans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.kill import kills
from harness.runtime import Bundle, Runtime

pytestmark = [pytest.mark.requires("root", "strace"), pytest.mark.timeout(600)]

MOST = 5  # of each kind of call
PATIENCE_S = 20


def strays() -> list[str]:
    """Cgroups of the container, wherever; processes and mounts are looked for after each test."""
    found = []
    for parent, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{parent}/{name}" for name in names if name == "knarr-one"]
    return found


def clean_up(runtime: Runtime, how: str) -> None:
    """Whatever is there, one command removes it, and the id is free again."""
    result = runtime("delete", "--force", "one")
    assert result.code == 0 or "does not exist" in result.stderr, f"{how}: {result}"
    deadline = time.monotonic() + PATIENCE_S
    while (left := [*os.listdir(runtime.containers), *strays()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == [], how
    assert "does not exist" in runtime("state", "one").stderr, how


@pytest.fixture
def created(runtime: Runtime, bundle: Bundle) -> Callable[[], object]:
    where = bundle("sleep", "1000")
    return lambda: runtime.create("one", where)


@pytest.fixture
def running(runtime: Runtime, created: Callable[[], object]) -> Callable[[], object]:
    def make() -> None:
        created()
        runtime.ok("start", "one")

    return make


def status(runtime: Runtime) -> str:
    """What it is, or "" when there is none; never an unexpected word or a traceback."""
    shown = runtime("state", "one")
    assert "Traceback" not in shown.stderr, str(shown)
    return runtime.status("one") if shown.code == 0 else ""


def test_create(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    words = ("create", "-b", bundle("sleep", "1000"), "--pid-file", str(pid_file), "one")
    for how in kills(runtime, tmp_path, *words, most=MOST):
        # A container that is shown as created can be started; any other was cut short.
        if status(runtime) == "created":
            runtime("start", "one")
        clean_up(runtime, how)


def test_run(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    for how in kills(runtime, tmp_path, "run", "-b", bundle("true"), "one", most=MOST):
        clean_up(runtime, how)


def test_start(runtime: Runtime, created: Callable[[], object], tmp_path: Path) -> None:
    for how in kills(runtime, tmp_path, "start", "one", most=MOST, before=created):
        now = status(runtime)
        assert now in ("created", "running"), how
        if now == "created":
            runtime.ok("start", "one")
        assert runtime.ok("exec", "one", "echo", "works") == "works", how
        clean_up(runtime, how)


def test_kill(runtime: Runtime, running: Callable[[], object], tmp_path: Path) -> None:
    for how in kills(runtime, tmp_path, "kill", "one", "KILL", most=MOST, before=running):
        assert status(runtime) in ("running", "stopped"), how
        clean_up(runtime, how)


def test_delete(runtime: Runtime, running: Callable[[], object], tmp_path: Path) -> None:
    def stopped() -> None:
        running()
        runtime.ok("kill", "one", "KILL")
        runtime.until("one", "stopped")

    for how in kills(runtime, tmp_path, "delete", "one", most=MOST, before=stopped):
        assert status(runtime) in ("", "stopped"), how
        clean_up(runtime, how)


def test_delete_by_force(runtime: Runtime, running: Callable[[], object], tmp_path: Path) -> None:
    for how in kills(runtime, tmp_path, "delete", "--force", "one", most=MOST, before=running):
        assert status(runtime) in ("", "running", "stopped"), how
        clean_up(runtime, how)


def test_exec(runtime: Runtime, running: Callable[[], object], tmp_path: Path) -> None:
    """The container does not notice."""
    running()
    for how in kills(runtime, tmp_path, "exec", "one", "true", most=MOST):
        assert status(runtime) == "running", how
        assert runtime.ok("exec", "one", "echo", "works") == "works", how
    clean_up(runtime, "exec")


def test_pause_and_resume(runtime: Runtime, running: Callable[[], object], tmp_path: Path) -> None:
    running()
    for verb in ("pause", "resume"):
        for how in kills(runtime, tmp_path, verb, "one", most=MOST):
            assert status(runtime) in ("running", "paused"), how
    runtime("pause", "one")
    clean_up(runtime, "pause")  # a frozen process dies too
