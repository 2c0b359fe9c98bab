"""From create to delete (runtime.md, Lifecycle and Operations), by the command line that engines call."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.runtime import Bundle, Runtime

pytestmark = pytest.mark.requires("root")


def test_run_ends_as_its_program_does_and_leaves_nothing(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime("run", "-b", bundle("sh", "-c", "cat; hostname; exit 7"), "c1", stdin="typed\n")
    assert (result.code, result.stdout, result.stderr) == (7, "typed\nbundled\n", "")
    assert os.listdir(runtime.containers) == []


def test_run_in_front_passes_signals_on(runtime: Runtime, bundle: Bundle) -> None:
    trap = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    front = runtime.popen("run", "-b", bundle("sh", "-c", trap), "c1", stdout=subprocess.PIPE)
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    front.terminate()
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"caught\n", 9)
    front = runtime.popen("run", "-b", bundle("sleep", "1000"), "c1")
    runtime.until("c1", "running")
    runtime.ok("kill", "c1", "KILL")
    assert front.wait(20) == 137


def test_created_started_ended_deleted(runtime: Runtime, bundle: Bundle) -> None:
    where = bundle("sh", "-c", "echo run; exec sleep 1000", annotations={"org.example": "a"})
    output = runtime.create("c1", where, "--pid-file", str(runtime.home / "pid"))
    state = runtime.state("c1")
    pid = int((runtime.home / "pid").read_text())
    assert state["ociVersion"] >= "1.2.0"
    assert {k: state[k] for k in ("id", "status", "pid", "bundle", "annotations")} == {
        "id": "c1", "status": "created", "pid": pid, "bundle": where, "annotations": {"org.example": "a"},
    }  # fmt: skip
    assert output.read_text() == ""
    runtime.ok("start", "c1")
    assert runtime.status("c1") == "running"
    again = runtime("start", "c1")
    assert again.code == 1
    assert "already running" in again.stderr
    assert runtime("delete", "c1").code == 1
    runtime.ok("kill", "c1", "KILL")
    runtime.until("c1", "stopped")
    assert output.read_text() == "run\n"
    assert "container not running" in runtime("kill", "c1").stderr
    runtime.ok("delete", "c1")
    assert "does not exist" in runtime("state", "c1").stderr


def test_a_container_that_was_never_started_can_be_deleted(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("true"))
    runtime.ok("delete", "c1")
    assert runtime("state", "c1").code == 1
    runtime.create("c1", bundle("true"))  # the id is free again
    runtime.ok("kill", "c1", "TERM")
    runtime.until("c1", "created")  # waiting, it is process 1 of its namespace: SIGTERM is not for it
    runtime.ok("kill", "c1", "KILL")
    runtime.until("c1", "stopped")
    refused = runtime("start", "c1")
    assert "has stopped" in refused.stderr


def test_delete_by_force(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    runtime.ok("delete", "--force", "c1")
    runtime.ok("delete", "-f", "c1")  # of nothing
    assert runtime("delete", "c1").code == 1


def test_what_a_create_may_not_find(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing is left of it, and the words are those that engines look for."""
    for words, text in (
        (("absent",), "executable file not found in $PATH"),
        (("/etc",), "permission denied"),
    ):
        result = runtime("create", "-b", bundle(*words), "c1")
        assert result.code == 1
        assert text in result.stderr
        assert os.listdir(runtime.containers) == []
    log = runtime.home / "log"
    assert runtime("--log", str(log), "--log-format", "json", "run", "-b", bundle("absent"), "c1").code == 1
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error"
    assert "executable file not found in $PATH" in line["msg"]


def test_an_id_is_taken_once(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("true"))
    assert "already exists" in runtime("create", "-b", bundle("true"), "c1").stderr
    assert runtime.status("c1") == "created"
    for wrong in ("", ".", "..", "a/b", "a b", "é"):
        assert runtime("create", "-b", bundle("true"), wrong).code == 1


def test_exec(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    assert runtime("exec", "c1", "sh", "-c", "exit 5").code == 5
    assert runtime.ok("exec", "-e", "A=b", "--cwd", "/tmp", "c1", "sh", "-c", "echo $A $PWD") == "b /tmp"
    assert runtime.ok("exec", "-u", "5:6", "c1", "id", "-u") == "5"
    assert runtime.ok("exec", "c1", "cat", stdin="through") == "through"
    missing = runtime("exec", "c1", "absent")
    assert missing.code == 255
    assert "executable file not found in $PATH" in missing.stderr
    process = runtime.home / "process.json"
    process.write_text(json.dumps({"cwd": "/", "args": ["sh", "-c", "echo $B"], "env": ["PATH=/bin", "B=c"]}))
    assert runtime.ok("exec", "--process", str(process), "c1") == "c"
    pid_file = runtime.home / "pid"
    words = ("exec", "-d", "--pid-file", str(pid_file), "c1", "sleep", "1000")
    assert runtime.popen(*words, stdout=subprocess.DEVNULL).wait(20) == 0
    pid = int(pid_file.read_text())
    assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{runtime.state('c1')['pid']}/ns/pid")
    assert set(json.loads(runtime.ok("ps", "-f", "json", "c1"))) == {pid, runtime.state("c1")["pid"]}
    assert "sleep" in runtime.ok("ps", "c1")
    assert runtime.ok("list", "-q") == "c1"
    assert json.loads(runtime.ok("list", "-f", "json"))[0]["status"] == "running"


def test_a_process_only_at_start(runtime: Runtime, bundle: Bundle) -> None:
    """config.md, Process: required when start is called."""
    runtime.create("c1", bundle(change=lambda config: config.pop("process")))
    assert "process: is required" in runtime("start", "c1").stderr
    assert runtime.status("c1") == "created"
    assert runtime("run", "-b", bundle(change=lambda config: config.pop("process")), "c2").code == 1


def test_pause_and_resume(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    runtime.ok("pause", "c1")
    assert runtime.status("c1") == "paused"
    assert "paused" in runtime("exec", "c1", "true").stderr
    runtime.ok("resume", "c1")
    assert runtime.status("c1") == "running"
    runtime.ok("pause", "c1")
    runtime.ok("delete", "--force", "c1")


def test_a_container_that_waits_for_its_start_is_paused_too(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("pause", "c1")
    assert runtime.status("c1") == "paused"
    assert "paused" in runtime("start", "c1").stderr
    runtime.ok("resume", "c1")
    assert runtime.status("c1") == "created"
    runtime.ok("start", "c1")
    assert runtime.status("c1") == "running"
    runtime.ok("kill", "c1", "")  # as without a signal
    runtime.create("c2", bundle("sleep", "1000"))
    runtime.ok("pause", "c2")
    runtime.ok("delete", "--force", "c2")
    assert os.listdir(runtime.containers) == ["c1"]


def hook(out: Path, name: str, rest: str = "") -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", f"{{ echo {name}; cat; echo; }} >> {out}; {rest}"]}


def test_hooks_in_their_order_with_the_state(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "hooks"
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    where = bundle("sleep", "1000", hooks={kind: [hook(out, kind)] for kind in kinds})
    runtime.create("c1", where)
    pid = runtime.state("c1")["pid"]
    runtime.ok("start", "c1")
    runtime.ok("delete", "-f", "c1")
    lines = out.read_text().splitlines()
    assert lines[::2] == list(kinds)
    states = [json.loads(line) for line in lines[1::2]]
    assert [s["status"] for s in states] == ["created", "created", "created", "running", "stopped"]
    assert all((s["id"], s["bundle"]) == ("c1", where) for s in states)
    assert states[0]["pid"] == states[1]["pid"] == states[3]["pid"] == pid


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_undoes_the_creation(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "hooks"
    hooks = {kind: [hook(out, kind, "echo why >&2; exit 3")], "poststop": [hook(out, "poststop")]}
    result = runtime("create", "-b", bundle("true", hooks=hooks), "c1")
    assert result.code == 1
    assert f"hooks.{kind}[0]" in result.stderr
    assert "why" in result.stderr
    assert os.listdir(runtime.containers) == []
    assert out.read_text().splitlines()[::2] == [kind, "poststop"]


def test_a_poststart_hook_that_fails_ends_the_container(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "hooks"
    hooks = {"poststart": [hook(out, "poststart", "exit 1")], "poststop": [hook(out, "poststop", "exit 1")]}
    runtime.create("c1", bundle("sleep", "1000", hooks=hooks))
    result = runtime("start", "c1")
    assert result.code == 1
    assert "hooks.poststart[0]" in result.stderr
    assert os.listdir(runtime.containers) == []
    assert out.read_text().splitlines()[::2] == ["poststart", "poststop"]


def test_a_start_container_hook_that_fails_is_heard_by_start(runtime: Runtime, bundle: Bundle) -> None:
    hooks = {"startContainer": [{"path": "/bin/false"}]}
    runtime.create("c1", bundle("sleep", "1000", hooks=hooks))
    result = runtime("start", "c1")
    assert result.code == 1
    assert "hooks.startContainer[0]" in result.stderr
    runtime.until("c1", "stopped")


def test_descriptors(runtime: Runtime, bundle: Bundle) -> None:
    """Only those that are preserved reach the workload, whatever the caller left open."""
    fds = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(4)]
    try:
        for keep in (0, 2, 100):
            listing = bundle("sh", "-c", "ls /proc/self/fd | wc -w")
            there = [os.dup2(fd, 40 + i) for i, fd in enumerate(fds)]
            words = ("--preserve-fds", str(keep)) if keep else ()
            result = runtime("run", *words, "-b", listing, f"c{keep}", pass_fds=there)
            # 0, 1, 2 and the one that ls reads the directory with
            assert result.stdout.strip() == str(4 + (4 if keep == 100 else 0))
    finally:
        for fd in (*fds, *range(40, 44)):
            os.close(fd)


def test_a_container_survives_who_created_it(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    pid = runtime.state("c1")["pid"]
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    assert runtime.status("c1") == "running"


@pytest.mark.requires("cgroup-v1")
def test_update_and_events(runtime: Runtime, bundle: Bundle) -> None:
    limits = {"resources": {"pids": {"limit": 20}, "memory": {"limit": 64 << 20}}}
    runtime.create("c1", bundle("sleep", "1000", linux=limits))
    runtime.ok("start", "c1")
    before = json.loads(runtime.ok("events", "--stats", "c1"))["data"]
    assert (before["pids"]["limit"], before["memory"]["usage"]["limit"]) == (20, 64 << 20)
    runtime.ok("update", "--pids-limit", "30", "--memory", "32m", "c1")
    resources = {"memory": {"limit": 48 << 20}}
    runtime.ok("update", "-r", "-", "c1", stdin=json.dumps(resources))
    after = json.loads(runtime.ok("events", "--stats", "c1"))["data"]
    assert (after["pids"]["limit"], after["memory"]["usage"]["limit"]) == (30, 48 << 20)


def test_events_end_with_the_container(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000"))
    runtime.ok("start", "c1")
    events = runtime.popen("events", "--interval", "50ms", "c1", stdout=subprocess.PIPE)
    time.sleep(0.3)
    runtime.ok("kill", "c1", "9")
    out, _ = events.communicate(timeout=20)
    assert events.returncode == 0
    assert {json.loads(line)["type"] for line in out.splitlines()} == {"stats"}


def test_without_a_command_or_a_bundle(runtime: Runtime, tmp_path: Path) -> None:
    for words in (
        ("nonsense",), ("create",), ("create", "-b", str(tmp_path), "c1"), ("start", "absent"), ("--unknown", "list"),
    ):  # fmt: skip
        result = runtime(*words)
        assert result.code == 1
        assert result.stderr.startswith("knarr-runtime: ")
        assert "Traceback" not in result.stderr
    assert "Usage: knarr-runtime" in runtime.ok("--help")
    assert "Usage: knarr-runtime exec" in runtime.ok("exec", "--help")
    assert runtime.ok("--version").startswith("knarr-runtime version ")


def test_without_any_namespace_the_host_gets_its_mounts_back(runtime: Runtime, bundle: Bundle) -> None:
    def share(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = []
        del config["hostname"], config["linux"]["readonlyPaths"]
        config["mounts"] = [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]

    before = Path("/proc/self/mountinfo").read_text().splitlines()
    where = bundle("sh", "-c", "echo x >/tmp/x; exec sleep 1000", change=share)
    runtime.create("c1", where)
    runtime.ok("start", "c1")
    pid = runtime.state("c1")["pid"]
    for kind in ("mnt", "pid", "net", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    assert os.readlink(f"/proc/{pid}/root") != "/"
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before) + 2
    runtime.ok("exec", "c1", "test", "-e", "/tmp/x")
    runtime.ok("delete", "-f", "c1")
    assert Path("/proc/self/mountinfo").read_text().splitlines() == before


@pytest.mark.requires("cgroup-v1")
def test_a_cgroup_that_is_in_use_or_frozen_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """And stays as it is, with what is in it."""
    path = Path("/sys/fs/cgroup/freezer/in-use")
    path.mkdir()
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        (path / "cgroup.procs").write_text(str(sleeper.pid))
        where = bundle("true", linux={"cgroupsPath": "/in-use"})
        assert "not empty" in runtime("create", "-b", where, "c1").stderr
        assert sleeper.poll() is None
        sleeper.kill()
        sleeper.wait()
        (path / "freezer.state").write_text("FROZEN")
        assert "frozen" in runtime("run", "-b", where, "c1").stderr
        assert os.listdir(runtime.containers) == []
        (path / "freezer.state").write_text("THAWED")
        assert runtime("run", "-b", where, "c1").code == 0
    finally:
        sleeper.kill()
        sleeper.wait()
        if path.exists():
            path.rmdir()


@pytest.mark.requires("cgroup-v1")
def test_exec_below_one_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create("c1", bundle("sleep", "1000", linux={"cgroupsPath": "/sub"}))
    runtime.ok("start", "c1")
    inner = Path("/sys/fs/cgroup/pids/sub/inner")
    inner.mkdir()
    try:
        pid_file = runtime.home / "pid"
        words = ("exec", "-d", "--cgroup", "pids:inner", "--pid-file", str(pid_file), "c1", "sleep", "1000")
        assert runtime.popen(*words, stdout=subprocess.DEVNULL).wait(20) == 0
        assert (inner / "cgroup.procs").read_text().split() == [pid_file.read_text()]
        assert pid_file.read_text() in Path("/sys/fs/cgroup/freezer/sub/cgroup.procs").read_text().split()
        for wrong in ("../up", "pids:../up", "nothing:inner"):
            assert "bad sub cgroup path" in runtime("exec", "--cgroup", wrong, "c1", "true").stderr
    finally:
        runtime.ok("delete", "-f", "c1")
    assert not inner.exists()
