"""`start` and `delete` by the launcher alone, and everything that it must leave to Python."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.runtime import Bundle, Runtime

pytestmark = pytest.mark.requires("root", "strace")


def executed(runtime: Runtime, *words: str) -> tuple[int, int]:
    """(exit code, how many programs the command was)."""
    log = runtime.home / "strace"
    argv = ["strace", "-f", "-e", "trace=execve", "-o", str(log), *runtime.argv, *words]
    done = subprocess.run(argv, env=runtime.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.returncode, log.read_text().count("execve(")


def test_start_and_delete_are_one_program(runtime: Runtime, bundle: Bundle) -> None:
    output = runtime.create("c1", bundle("echo", "run"))
    assert executed(runtime, "start", "c1") == (0, 1)
    runtime.until("c1", "stopped")
    assert output.read_text() == "run\n"
    assert executed(runtime, "--log", "/dev/null", "--log-format", "json", "delete", "c1") == (0, 1)
    assert os.listdir(runtime.containers) == []


def test_a_failing_program_is_told_by_python(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/absent\n")
    program.chmod(0o755)
    mount = {"destination": "/tmp/p", "type": "bind", "source": str(program), "options": ["bind"]}
    where = bundle("/tmp/p", change=lambda config: config["mounts"].append(mount))
    runtime.create("c1", where)
    result = runtime("start", "c1")
    assert result.code == 1
    assert "no such file or directory" in result.stderr
    runtime.until("c1", "stopped")
    assert "has stopped" in runtime("start", "c1").stderr  # what was said is said once


def test_what_still_lives_is_not_deleted(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    assert "not stopped" in runtime("delete", "c1").stderr
    assert runtime.status("c1") == "running"


def test_processes_that_are_left_are_killed(runtime: Runtime, bundle: Bundle) -> None:
    """Without a pid namespace they outlive the first one: a cgroup that is not empty is Python's."""

    def share(config: dict[str, Any]) -> None:
        kept = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
        config["linux"]["namespaces"] = kept

    runtime.create("c1", bundle("sh", "-c", "sleep 1000 & exec true", change=share))
    runtime.ok("start", "c1")
    runtime.until("c1", "stopped")
    code, programs = executed(runtime, "delete", "c1")
    assert code == 0
    assert programs > 1


def test_a_lock_that_is_held_is_waited_for(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    with open(runtime.containers / "c1/lock", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        started = runtime.popen("start", "c1")
        time.sleep(0.3)
        assert started.poll() is None
    assert started.wait(20) == 0
    assert runtime.status("c1") == "running"


def test_of_starts_at_once_one_is_it(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(runtime("start", "c1").code)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [0, 1, 1, 1]


def test_a_container_whose_process_died_is_not_started(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("true"))
    os.kill(runtime.state("c1")["pid"], signal.SIGKILL)
    runtime.until("c1", "stopped")
    assert "has stopped" in runtime("start", "c1").stderr
    runtime.ok("delete", "c1")


@pytest.mark.parametrize(
    "text", [b"", b"knarr-runtime 2\n", b"knarr-runtime 1\npid x\nstart\ndelete\n", b"\0" * 20_000]
)
def test_a_file_of_another_layout_or_a_damaged_one_is_not_followed(
    runtime: Runtime, bundle: Bundle, text: bytes
) -> None:
    runtime.create("c1", bundle("true"))
    (runtime.containers / "c1/ahead").write_bytes(text)
    assert executed(runtime, "start", "c1")[0] == 0
    runtime.until("c1", "stopped")
    code, programs = executed(runtime, "delete", "c1")
    assert code == 0
    assert programs > 1
