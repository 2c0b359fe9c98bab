"""`knarr run --runtime crun|runc|runsc|PATH`: containers that another runtime makes are containers like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.terminal import Terminal
from harness.wait import until

pytestmark = [pytest.mark.requires("root", "overlay"), pytest.mark.timeout(300)]


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.requires(name)) for name in ("crun", "runc", "runsc")]
)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inspect(knarr: Knarr, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(knarr.ok("inspect", name))[0]
    return found


def test_in_front(knarr: Knarr, busybox: str, runtime: str) -> None:
    run = ("run", "--rm", "--network", "none", "--runtime", runtime)
    result = knarr(*run, "-i", busybox, "sh", "-c", "cat; id -u; echo err >&2; exit 7", stdin="typed\n")
    assert (result.code, result.stdout, result.stderr) == (7, "typed\n0\n", "err\n")
    result = knarr(
        *run,
        "-u",
        "1000",
        "-e",
        "A=two",
        "-w",
        "/tmp",
        "-h",
        "box",
        busybox,
        "sh",
        "-c",
        "id -u; echo $A; pwd; hostname",
    )
    assert (result.code, result.stdout) == (0, "1000\ntwo\n/tmp\nbox\n")
    assert knarr(*run, busybox, "sh", "-c", "kill -9 $$").code in (0, 137)  # process 1 does not kill itself


def test_who_runs_it_is_seen(knarr: Knarr, busybox: str) -> None:
    """gVisor's kernel answers for its own."""
    if shutil.which("runsc"):
        assert "gVisor" in knarr.ok(
            "run", "--rm", "--network", "none", "--runtime", "runsc", busybox, "dmesg"
        )
    result = knarr("run", "--rm", "--runtime", "no-such-runtime", busybox, "true")
    assert (result.code, "no-such-runtime: not found" in result.stderr) == (125, True)
    result = knarr("run", "--rm", "--init", "--runtime", "/bin/true", busybox, "true")
    assert (result.code, "--init cannot be used" in result.stderr) == (125, True)


def test_what_cannot_be_started(knarr: Knarr, busybox: str, runtime: str) -> None:
    run = ("run", "--rm", "--network", "none", "--runtime", runtime)
    if runtime == "runsc":  # which has said that the container runs by then
        assert knarr(*run, busybox, "no-such-command").code != 0
        return
    result = knarr(*run, busybox, "no-such-command")
    assert (result.code, "not found" in result.stderr) == (127, True), str(result)
    assert knarr(*run, busybox, "/etc").code == 126
    result = knarr(*run, "-d", "--name", "never", busybox, "no-such-command")
    assert (result.code, result.stdout) == (127, ""), str(result)
    assert knarr.ok("ps", "-aq") == ""


def test_a_life(knarr: Knarr, busybox: str, runtime: str) -> None:
    traps = "trap 'exit 5' TERM; echo began; while :; do sleep 0.1; done"
    options = ("--network", "none", "--runtime", runtime)
    knarr.ok("run", "-d", "--name", "life", *options, busybox, "sh", "-c", traps)
    until(30, lambda: knarr.ok("logs", "life") == "began")
    assert "life" in knarr.ok("ps")
    assert inspect(knarr, "life")["State"]["Running"] is True  # type: ignore[index]
    result = knarr(
        "exec", "-i", "-e", "A=1", "-w", "/tmp", "life", "sh", "-c", "cat; echo $A; pwd; exit 3", stdin="x\n"
    )
    assert (result.code, result.stdout) == (3, "x\n1\n/tmp\n"), str(result)
    assert knarr("exec", "-u", "1000", "life", "id", "-u").stdout == "1000\n"
    knarr.ok("exec", "-d", "life", "touch", "/made")
    until(30, lambda: knarr("exec", "life", "ls", "/made").code == 0)
    knarr.ok("pause", "life")
    assert "Paused" in knarr.ok("ps")
    knarr.ok("unpause", "life")
    assert "PID" in knarr.ok("top", "life")
    knarr.ok("stop", "life")
    assert inspect(knarr, "life")["State"]["ExitCode"] == 5  # type: ignore[index]
    knarr.ok("start", "life")
    until(30, lambda: knarr.ok("logs", "life") == "began\nbegan")
    assert knarr("exec", "life", "ls", "/made").code == 0  # its writable layer is the same
    knarr.ok("kill", "life")
    assert knarr.ok("wait", "life") == "137"
    knarr.ok("rm", "life")
    assert knarr.ok("ps", "-aq") == ""


def test_terminals(knarr: Knarr, busybox: str, runtime: str) -> None:
    run = ("run", "-it", "--rm", "--name", "seen", "--network", "none", "--runtime", runtime, busybox, "sh")
    with Terminal([*knarr.argv, *run], knarr.env) as front:
        front.until("# ")
        settles(front, "24 80")
        if runtime != "crun":  # whose `run`, of 1.8, does not follow
            front.resize(33, 99)
            settles(front, "33 99")
        front.type("test -t 0 && echo a-termi''nal\n")
        front.until("a-terminal")
        with Terminal([*knarr.argv, "exec", "-it", "seen", "sh"], knarr.env) as second:
            second.until("# ")
            second.type("test -t 1 && echo a''nother; exit 4\n")
            assert second.end() == 4
            assert "another" in second.seen
        front.type("exit 9\n")
        assert front.end() == 9


def settles(terminal: Terminal, size: str) -> None:
    """The new size takes a moment to arrive."""
    deadline = time.monotonic() + 20
    while f"{size}\n" not in terminal.seen:
        assert time.monotonic() < deadline, terminal.seen
        terminal.type("stty size; echo si''ze\n")
        terminal.until("\nsize\n")
        time.sleep(0.1)


@pytest.mark.requires("nft", "ip")
def test_on_the_bridge(knarr: Knarr, busybox: str, runtime: str) -> None:
    options = ("--runtime", runtime, "-p", "127.0.0.1:18080:80")
    knarr.ok(
        "run",
        "-d",
        "--name",
        "server",
        *options,
        busybox,
        "sh",
        "-c",
        "echo page >/www/index.html; exec httpd -f -h /www",
    )
    address = inspect(knarr, "server")["NetworkSettings"]["IPAddress"]  # type: ignore[index]
    fetch = ("wget", "-q", "-O", "-", f"http://{address}/")
    until(30, lambda: knarr("run", "--rm", busybox, *fetch).stdout == "page\n")
    if runtime != "runsc":  # busybox's wget does not get along with its sockets
        assert knarr.ok("run", "--rm", "--runtime", runtime, busybox, *fetch) == "page"
    joined = ("run", "--rm", "--network", "container:server", busybox, *fetch[:-1], "http://127.0.0.1/")
    until(30, lambda: knarr(*joined).stdout == "page\n")
    knarr.ok("rm", "-f", "server")


def test_volumes_and_binds(knarr: Knarr, busybox: str, runtime: str, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given\n")
    options = (
        "--rm",
        "--network",
        "none",
        "--runtime",
        runtime,
        "-v",
        "data:/data",
        "-v",
        f"{tmp_path}:/here",
    )
    assert (
        knarr.ok(
            "run", *options, busybox, "sh", "-c", "cat /here/given; echo kept >/data/x; echo out >/here/made"
        )
        == "given"
    )
    assert (tmp_path / "made").read_text() == "out\n"
    assert knarr.ok("run", *options, busybox, "cat", "/data/x") == "kept"
    options = (
        "--rm",
        "--network",
        "none",
        "--runtime",
        runtime,
        "-v",
        "filled:/etc",
        "--tmpfs",
        "/scratch",
        "--read-only",
    )
    script = "test -s /etc/passwd && touch /scratch/x && touch /x || echo refused"
    assert knarr.ok("run", *options, busybox, "sh", "-c", script) == "refused"


@pytest.mark.requires("cgroup-v1")
def test_limits(knarr: Knarr, busybox: str, runtime: str) -> None:
    run = ("run", "--network", "none", "--runtime", runtime)
    if runtime != "runsc":  # which shows a machine of its own
        v1 = "/sys/fs/cgroup"
        asked = ("-m", "48m", "--pids-limit", "33", "--cpus", "0.5")
        shown = f"cat {v1}/memory/memory.limit_in_bytes {v1}/pids/pids.max {v1}/cpu/cpu.cfs_quota_us"
        assert knarr.ok(*run, "--rm", *asked, busybox, "sh", "-c", shown).split() == [
            f"{48 << 20}",
            "33",
            "50000",
        ]
        result = knarr(
            *run, "--name", "greedy", "-m", "24m", "--memory-swap", "24m", busybox, "tail", "/dev/zero"
        )
        assert result.code == 137, str(result)
        knarr.ok("rm", "greedy")
        return
    knarr.ok(*run, "-d", "--name", "limited", "-m", "200m", busybox, "sleep", "60")
    container = inspect(knarr, "limited")["Id"]
    found = [
        p for p in Path("/sys/fs/cgroup/memory").rglob("memory.limit_in_bytes") if str(container) in str(p)
    ]
    assert f"{200 << 20}" in {p.read_text().strip() for p in found}
    knarr.ok("rm", "-f", "limited")


def _pids(knarr: Knarr, name: str) -> dict[str, int]:
    container = inspect(knarr, name)["Id"]
    lines = (knarr.run / "containers" / str(container) / "pid").read_text().split("\n")
    return {
        k: int(v) for k, v in (line.split(" ", 1) for line in lines if line.startswith(("pid", "monitor ")))
    }


@pytest.mark.parametrize("victim", ["monitor", "pid"])
def test_killed(knarr: Knarr, busybox: str, runtime: str, victim: str) -> None:
    """Whoever is killed, of the container nothing is left (the harness looks at processes, mounts and cgroups)."""
    knarr.ok(
        "run", "-d", "--name", "hit", "--network", "none", "--runtime", runtime, busybox, "sleep", "1000"
    )
    until(30, lambda: knarr("exec", "hit", "true").code == 0)
    os.kill(_pids(knarr, "hit")[victim], signal.SIGKILL)
    until(30, lambda: inspect(knarr, "hit")["State"]["Status"] == "exited")  # type: ignore[index]
    assert inspect(knarr, "hit")["State"]["ExitCode"] == 137  # type: ignore[index]
    knarr.ok("start", "hit")
    knarr.ok("rm", "-f", "hit")


def test_the_front_is_killed(knarr: Knarr, busybox: str, runtime: str) -> None:
    words = (
        "run",
        "--rm",
        "--name",
        "front",
        "--network",
        "none",
        "--runtime",
        runtime,
        busybox,
        "sleep",
        "1000",
    )
    process = knarr.popen(*words)
    until(30, lambda: knarr("exec", "front", "true").code == 0)
    process.kill()
    process.wait()
    until(30, lambda: knarr.ok("ps", "-aq") == "")


@pytest.mark.requires("newuidmap")
def test_an_ordinary_user(user: Knarr, user_busybox: str, runtime: str) -> None:
    run = ("run", "--network", "none", "--runtime", runtime)
    result = user(*run, "--rm", "-i", user_busybox, "sh", "-c", "cat; id -u; exit 3", stdin="typed\n")
    assert (result.code, result.stdout) == (3, "typed\n0\n"), str(result)
    user.ok(*run, "-d", "--name", "mine", user_busybox, "sleep", "1000")
    assert user("exec", "mine", "sh", "-c", "exit 4").code == 4
    os.kill(_pids(user, "mine")["monitor"], signal.SIGKILL)
    until(30, lambda: inspect(user, "mine")["State"]["Status"] == "exited")  # type: ignore[index]
    user.ok("rm", "mine")


@pytest.mark.requires("crun", "newuidmap")
def test_the_configuration(user: Knarr, user_busybox: str) -> None:
    settings = user.home / ".config/knarr/runtimes.toml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(
        f'default = "mine"\n[runtimes.mine]\npath = "{shutil.which("crun")}"\nargs = ["--debug"]\n'
    )
    for words, name in (((), "mine"), (("--runtime", "knarr"), "knarr")):
        user.ok("run", "-d", "--name", "one", "--network", "none", *words, user_busybox, "sleep", "100")
        assert inspect(user, "one")["HostConfig"]["Runtime"] == name  # type: ignore[index]
        assert user("exec", "one", "sh", "-c", "exit 5").code == 5
        user.ok("rm", "-f", "one")
    settings.write_text("[runtimes.mine]\npaht = 3\n")
    result = user("run", "--rm", user_busybox, "true")
    assert (result.code, "unknown key 'paht'" in result.stderr) == (125, True)


def test_another_containers_namespaces_are_refused(knarr: Knarr, busybox: str, runtime: str) -> None:
    """`--ipc container:X` of a container whose namespace another runtime keeps would be the host's."""
    knarr.ok(
        "run", "-d", "--name", "other", "--network", "none", "--runtime", runtime, busybox, "sleep", "100"
    )
    for flag in ("--ipc", "--pid"):
        result = knarr("run", "--rm", flag, "container:other", busybox, "true")
        assert (result.code, "keeps its" in result.stderr) == (125, True), str(result)
    knarr.ok("rm", "-f", "other")
