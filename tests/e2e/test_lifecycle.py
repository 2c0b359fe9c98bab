"""A detached container's life: start, look, exec, stop, start again, rename, pause, remove."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from harness.command import Knarr

pytestmark = pytest.mark.requires("userns", "overlay")


def detached(cli: Knarr, image: str, *words: str, flags: tuple[str, ...] = ()) -> str:
    return cli.ok("run", "-d", "--network", "none", *flags, image, *(words or ("sleep", "1000")))


def test_from_run_to_rm(cli: Knarr, image: str) -> None:
    cid = detached(
        cli, image, "sh", "-c", "echo hello; echo oops >&2; exec sleep 1000", flags=("--name", "one")
    )
    assert len(cid) == 64
    listed = cli.ok("ps").splitlines()
    assert len(listed) == 2
    assert cid[:12] in listed[1] and "one" in listed[1] and "Up " in listed[1]
    logs = cli("logs", "one")
    assert (logs.stdout, logs.stderr) == ("hello\n", "oops\n")
    assert cli.ok("exec", "one", "echo", "inside") == "inside"
    assert cli.ok("stop", "-t", "0", "one") == "one"
    assert cli.ok("ps", "-q") == ""
    assert "Exited (137)" in cli.ok("ps", "-a")
    assert cli.ok("rm", "one") == "one"
    assert cli.ok("ps", "-aq") == ""


def test_the_writable_layer_survives_a_restart(cli: Knarr, image: str) -> None:
    cid = detached(cli, image)
    cli.ok("exec", cid, "sh", "-c", "echo kept >/file")
    cli.ok("restart", "-t", "0", cid)
    assert cli.ok("exec", cid, "cat", "/file") == "kept"
    cli.ok("kill", cid)
    cli.ok("start", cid)
    assert cli.ok("exec", cid, "cat", "/file") == "kept"


def test_create_start_wait(cli: Knarr, image: str) -> None:
    cid = cli.ok("create", "--network", "none", image, "sh", "-c", "exit 5")
    assert "Created" in cli.ok("ps", "-a")
    assert cli.ok("start", cid) == cid
    assert cli.ok("wait", cid) == "5"
    attached = cli("start", "-a", cid)
    assert attached.code == 5


def test_start_attaches_to_what_runs_already(cli: Knarr, image: str) -> None:
    cid = cli.ok("create", "--network", "none", "-i", image, "sh", "-c", "read x; exit $x")
    cli.ok("start", cid)
    assert cli("start", "-ai", cid, stdin="6\n").code == 6


def test_what_goes_when_it_ends_is_not_restarted(cli: Knarr, image: str) -> None:
    cid = cli.ok("run", "-d", "--rm", "--network", "none", image, "sleep", "1000")
    refused = cli("restart", "-t", "0", cid)
    assert refused.code == 1 and "--rm" in refused.stderr
    assert cli.ok("exec", cid, "echo", "runs") == "runs"
    cli.ok("stop", "-t", "0", cid)


def test_exec_codes_user_env_workdir(cli: Knarr, image: str) -> None:
    cid = detached(cli, image)
    assert cli("exec", cid, "sh", "-c", "exit 6").code == 6
    assert cli("exec", cid, "nonexistent").code == 127
    assert cli("exec", cid, "/etc").code == 126
    out = cli.ok(
        "exec", "-u", "1000", "-e", "A=1", "-w", "/tmp", cid, "sh", "-c", "id -u; echo $A; pwd"
    ).split()
    assert out == ["1000", "1", "/tmp"]
    assert cli.ok("exec", "-i", cid, "cat", stdin="through") == "through"
    stopped = cli("exec", "nope", "true")
    assert stopped.code != 0 and "no such container" in stopped.stderr


def test_exec_is_as_confined_as_the_container(cli: Knarr, image: str) -> None:
    cid = detached(cli, image)
    status = cli.ok("exec", cid, "cat", "/proc/self/status")
    assert "Seccomp:\t2" in status
    assert "CapEff:\t00000000a80425fb" in status
    assert "CapInh:\t0000000000000000" in status
    assert cli.ok("exec", cid, "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]


def test_detached_exec(cli: Knarr, image: str) -> None:
    cid = detached(cli, image)
    assert cli.ok("exec", "-d", cid, "sh", "-c", "echo done >/file; sleep 1000") == ""
    deadline = time.monotonic() + 10
    while cli("exec", cid, "cat", "/file").code and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cli.ok("exec", cid, "cat", "/file") == "done"


def test_stop_signal_and_timeout(cli: Knarr, image: str) -> None:
    script = "trap 'exit 21' USR1; while :; do sleep 0.05; done"
    cid = detached(cli, image, "sh", "-c", script, flags=("--stop-signal", "USR1"))
    cli.ok("exec", cid, "true")
    cli.ok("stop", cid)
    assert cli.ok("inspect", "-f", "{{.State.ExitCode}}", cid) == "21"


def test_inspect(cli: Knarr, image: str) -> None:
    cid = detached(cli, image, flags=("--name", "one", "-l", "a=b", "-e", "K=V"))
    seen = json.loads(cli.ok("inspect", "one"))[0]
    assert seen["Id"] == cid and seen["Name"] == "/one"
    assert seen["State"]["Status"] == "running" and seen["State"]["Pid"] > 1
    assert seen["Config"]["Labels"]["a"] == "b" and "K=V" in seen["Config"]["Env"]
    assert cli.ok("inspect", "-f", "{{.State.Running}}", "one") == "true"
    assert cli("inspect", "nope").code == 1
    assert json.loads(cli.ok("inspect", image))[0]["Id"].startswith("sha256:")


def test_filters_and_formats(cli: Knarr, image: str) -> None:
    detached(cli, image, flags=("--name", "one", "-l", "a=b"))
    detached(cli, image, flags=("--name", "two"))
    assert cli.ok("ps", "--filter", "label=a=b", "--format", "{{.Names}}") == "one"
    assert cli.ok("ps", "--filter", "name=tw", "--format", "{{.Names}} {{.State}}") == "two running"
    assert cli.ok("ps", "-n", "1", "--format", "{{.Names}}") == "two"
    assert cli("ps", "--filter", "nope=1").code == 1


def test_rename_port_top(cli: Knarr, image: str) -> None:
    cid = detached(cli, image, flags=("--name", "one"))
    cli.ok("rename", "one", "two")
    assert cli("exec", "one", "true").code != 0
    assert cli.ok("inspect", "-f", "{{.Name}}", cid) == "/two"
    assert "sleep 1000" in cli.ok("top", "two")
    assert cli.ok("port", "two") == ""


@pytest.mark.requires("root")
def test_pause(knarr: Knarr, busybox: str) -> None:
    cid = detached(knarr, busybox)
    knarr.ok("pause", cid)
    assert "(Paused)" in knarr.ok("ps")
    refused = knarr("exec", cid, "true")
    assert refused.code != 0 and "paused" in refused.stderr
    knarr.ok("unpause", cid)
    assert knarr.ok("exec", cid, "echo", "on") == "on"
    knarr.ok("pause", cid)
    assert knarr.ok("rm", "-f", cid) == cid


def test_logs_tail_follow_timestamps(cli: Knarr, image: str) -> None:
    cid = detached(cli, image, "sh", "-c", "for i in 1 2 3; do echo $i; done; sleep 0.5; echo last")
    assert cli.ok("logs", "-f", cid).split() == ["1", "2", "3", "last"]
    assert cli.ok("logs", "--tail", "2", cid).split() == ["3", "last"]
    stamped = cli.ok("logs", "-t", "-n", "1", cid)
    assert stamped.endswith("Z last") and stamped[4] == "-"
    assert cli.ok("logs", "--since", "2100-01-01", cid) == ""


def test_logs_rotate_and_keep_long_lines(cli: Knarr, image: str) -> None:
    script = "seq 1 3000; head -c 100000 /dev/zero | tr '\\0' x; echo"
    flags = ("--log-opt", "max-size=16k", "--log-opt", "max-file=2")
    cid = detached(cli, image, "sh", "-c", script, flags=flags)
    assert cli.ok("wait", cid) == "0"
    lines = cli.ok("logs", cid).splitlines()
    assert lines[-1] == "x" * len(lines[-1])
    assert 0 < len(lines) < 3000
    files = sorted(p for p in os.listdir(cli.root / "containers" / cid) if p.startswith("log"))
    assert files == ["log", "log.1"]


def test_remove_refuses_what_runs(cli: Knarr, image: str) -> None:
    cid = detached(cli, image)
    refused = cli("rm", cid)
    assert refused.code == 1 and "is running" in refused.stderr
    assert cli.ok("rm", "-f", cid) == cid
    assert cli("rm", "nope").code == 1
    assert cli("rm", "-f", "nope").code == 0


def test_a_terminal(cli: Knarr, image: str) -> None:
    leader, follower = os.openpty()
    with cli.popen(
        "run", "--rm", "-it", "--network", "none", image, "sh",
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        os.write(leader, b"tty; stty size; exit 4\n")
        seen = b""
        while True:
            try:
                chunk = os.read(leader, 4096)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
        assert process.wait(20) == 4
    os.close(leader)
    assert b"/dev/pts/0" in seen


def test_detach_keys_leave_it_running(cli: Knarr, image: str) -> None:
    leader, follower = os.openpty()
    with cli.popen(
        "run", "-it", "--name", "one", "--network", "none", image, "sh",
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        os.write(leader, b"echo rea''dy\n")
        seen = b""
        while b"ready" not in seen:
            seen += os.read(leader, 4096)
        os.write(leader, b"\x10\x11")
        assert process.wait(20) == 0
    os.close(leader)
    assert cli.ok("exec", "one", "echo", "alive") == "alive"


def test_attach(cli: Knarr, image: str) -> None:
    cid = detached(cli, image, "sh", "-c", "read x; echo got $x; exit 8", flags=("-i",))
    with cli.popen("attach", cid, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(b"word\n", 20)
        assert (out, process.returncode) == (b"got word\n", 8)


def test_two_commands_on_one_container(cli: Knarr, image: str) -> None:
    cid = cli.ok("create", "--network", "none", image, "sleep", "1000")
    starts = [cli.popen("start", cid, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    results = [(p.communicate(), p.returncode) for p in starts]
    assert any(code == 0 for _, code in results)
    assert all(b"Traceback" not in err for (_, err), _ in results)
    assert len(cli.ok("ps", "-q").split()) == 1
    removals = [cli.popen("rm", "-f", cid, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    results = [(p.communicate(), p.returncode) for p in removals]
    assert any(code == 0 for _, code in results)
    assert all(b"Traceback" not in err for (_, err), _ in results)
    assert cli.ok("ps", "-aq") == ""
