"""`knarr run`, as docker's users know it. Each test runs as root and as an ordinary user."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.command import Knarr

pytestmark = pytest.mark.requires("userns", "overlay")


def run(cli: Knarr, image: str, *words: str, flags: tuple[str, ...] = ()) -> str:
    return cli.ok("run", "--rm", "--network", "none", *flags, image, *words)


def test_output_and_exit_code(cli: Knarr, image: str) -> None:
    result = cli("run", "--rm", "--network", "none", image, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_a_signal_is_an_exit_code(cli: Knarr, image: str) -> None:
    # Not as process 1: the kernel keeps that from killing itself.
    assert cli("run", "--rm", "--init", "--network", "none", image, "sh", "-c", "kill -9 $$").code == 137


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("/nonexistent",), 127, "no such file or directory"),
        (("nonexistent",), 127, "executable file not found in $PATH"),
        (("/etc",), 126, "permission denied"),
    ],
)
def test_docker_codes_for_a_command_that_cannot_be_run(
    cli: Knarr, image: str, words: tuple[str, ...], code: int, text: str
) -> None:
    result = cli("run", "--rm", "--network", "none", image, *words)
    assert result.code == code, result
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--nope", "x"),
        ("run",),
        ("run", "-v", "a:b:c:d", "x"),
        ("run", "--pull", "never", "does-not-exist"),
        ("run", "--network", "nowhere", "BUSYBOX"),
        ("run", "--userns", "nowhere", "BUSYBOX"),
        ("run", "-w", "relative", "BUSYBOX"),
        ("run", "UPPER"),
        ("run", "--name", "../x", "BUSYBOX"),
        ("run", "--cap-add", "NOPE", "BUSYBOX"),
        ("run", "--security-opt", "nope", "BUSYBOX"),
        ("run", "--user", "nobody-here", "BUSYBOX"),
        ("run", "--sysctl", "kernel.panic=1", "BUSYBOX"),
    ],
)
def test_a_wrong_request_is_one_line_and_125(cli: Knarr, image: str, words: tuple[str, ...]) -> None:
    result = cli(*(image if w == "BUSYBOX" else w for w in words))
    assert result.code == 125, result
    assert result.stderr.startswith("knarr: ")
    assert len(result.stderr.splitlines()) <= 2, result
    assert cli.ok("ps", "-aq") == ""


def test_bytes_arrive_as_they_are(cli: Knarr, image: str) -> None:
    data = os.urandom(300_000)
    with cli.popen(
        "run", "--rm", "-i", "--network", "none", image, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        out, _ = process.communicate(data, 60)
    assert process.returncode == 0
    assert out == data


def test_without_i_standard_input_is_empty(cli: Knarr, image: str) -> None:
    assert cli.ok("run", "--rm", "--network", "none", image, "cat", stdin="not for you") == ""


def test_environment(cli: Knarr, image: str, tmp_path: Path) -> None:
    file = cli.home / "env"
    file.write_text("# comment\nFROM_FILE=a b\nMINE\n")
    file.chmod(0o644)
    flags = ("-e", "A=1", "--env-file", str(file), "-h", "box")
    out = cli.ok(
        "run", "--rm", "--network", "none", *flags, image, "env", env={"MINE": "inherited"}
    ).splitlines()
    assert {"A=1", "FROM_FILE=a b", "MINE=inherited", "HOSTNAME=box", "HOME=/root"} <= set(out)
    assert any(line.startswith("PATH=/") for line in out)


def test_hostname_workdir_entrypoint(cli: Knarr, image: str) -> None:
    assert run(cli, image, "hostname", flags=("--hostname", "box")) == "box"
    assert run(cli, image, "pwd", flags=("-w", "/made/for/it")) == "/made/for/it"
    assert run(cli, image, "a", "b", flags=("--entrypoint", "echo")) == "a b"


def test_user(cli: Knarr, image: str) -> None:
    assert run(cli, image, "id", "-u") == "0"
    assert run(cli, image, "sh", "-c", "id -u; id -g", flags=("-u", "1000:1001")).split() == ["1000", "1001"]


def test_own_namespaces(cli: Knarr, image: str) -> None:
    assert run(cli, image, "sh", "-c", "echo $$") == "1"
    kinds = ("pid", "mnt", "net", "ipc", "uts", "cgroup")
    script = "; ".join(f"readlink /proc/self/ns/{k}" for k in kinds)
    inside = run(cli, image, "sh", "-c", script).split()
    outside = [os.readlink(f"/proc/self/ns/{k}") for k in kinds]
    assert not set(inside) & set(outside)


def test_no_descriptor_leaks(cli: Knarr, image: str) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    out = subprocess.run(
        [*cli.argv, "run", "--rm", "--network", "none", image, "ls", "/proc/self/fd"],
        env=cli.env, pass_fds=(write,), capture_output=True, text=True, check=True,
        **({"user": cli.uid, "group": cli.uid, "extra_groups": []} if cli.uid else {}),
    )  # fmt: skip
    os.close(read)
    os.close(write)
    assert out.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own


def test_read_only_root_and_tmpfs(cli: Knarr, image: str) -> None:
    flags = ("--read-only", "--tmpfs", "/scratch:size=1m")
    out = run(
        cli, image, "sh", "-c", "touch /x 2>/dev/null || echo no; touch /scratch/x && echo yes", flags=flags
    )
    assert out.split() == ["no", "yes"]


def test_volumes(cli: Knarr, image: str) -> None:
    shared = cli.home / "shared"
    shared.mkdir()
    if cli.uid:
        os.chown(shared, cli.uid, cli.uid)
    run(cli, image, "sh", "-c", "echo hello >/data/file", flags=("-v", f"{shared}:/data"))
    assert (shared / "file").read_text() == "hello\n"
    refused = cli("run", "--rm", "--network", "none", "-v", f"{shared}:/data:ro", image, "touch", "/data/x")
    assert refused.code == 1
    assert (
        run(cli, image, "cat", "/m/file", flags=("--mount", f"type=bind,src={shared},dst=/m,ro")) == "hello"
    )
    run(cli, image, "sh", "-c", "echo kept >/v/file", flags=("-v", "named:/v"))
    assert run(cli, image, "cat", "/v/file", flags=("-v", "named:/v")) == "kept"
    missing = cli("run", "--rm", "--mount", "type=bind,src=/nonexistent/x,dst=/m", image, "true")
    assert missing.code == 125 and "does not exist" in missing.stderr


def test_capabilities_and_privileges(cli: Knarr, image: str) -> None:
    def effective(*flags: str) -> int:
        text = run(cli, image, "grep", "CapEff", "/proc/self/status", flags=flags)
        return int(text.split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE") == 1 << 10
    assert effective("-u", "1000") == 0
    status = run(cli, image, "cat", "/proc/self/status", flags=("--security-opt", "no-new-privileges"))
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert "Seccomp:\t0" in run(
        cli, image, "cat", "/proc/self/status", flags=("--security-opt", "seccomp=unconfined")
    )
    assert run(cli, image, "sh", "-c", "cat /proc/kcore | wc -c") == "0"
    refused = cli("run", "--rm", "--network", "none", image, "sh", "-c", "echo 1 >/proc/sys/kernel/panic")
    assert refused.code != 0


def test_ulimit_sysctl_shm(cli: Knarr, image: str) -> None:
    assert run(cli, image, "sh", "-c", "ulimit -n", flags=("--ulimit", "nofile=100:200")) == "100"
    assert (
        run(cli, image, "cat", "/proc/sys/net/ipv4/ip_forward", flags=("--sysctl", "net.ipv4.ip_forward=1"))
        == "1"
    )
    assert "65536" not in run(cli, image, "df", "/dev/shm", flags=("--shm-size", "1m"))


def test_init_reaps(cli: Knarr, image: str) -> None:
    script = "(sleep 0.1 & ) ; sleep 0.5; ps -o pid,stat,comm; exit 7"
    result = cli("run", "--rm", "--init", "--network", "none", image, "sh", "-c", script)
    assert result.code == 7
    assert " Z" not in result.stdout
    assert run(cli, image, "sh", "-c", "echo $$", flags=("--init",)) != "1"


def test_cidfile_name_and_conflict(cli: Knarr, image: str) -> None:
    cidfile = cli.home / "cid"
    cid = cli.ok(
        "run", "-d", "--name", "one", "--network", "none", "--cidfile", str(cidfile), image, "sleep", "100"
    )
    assert cidfile.read_text() == cid
    second = cli("run", "-d", "--name", "one", "--network", "none", image, "true")
    assert second.code == 125 and "already in use" in second.stderr
    again = cli("run", "--rm", "--cidfile", str(cidfile), image, "true")
    assert again.code == 125
    assert cli.ok("ps", "-q", "--no-trunc") == cid
    assert cli.ok("rm", "-f", "one") == "one"


def test_signals_reach_the_container(cli: Knarr, image: str) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with cli.popen(
        "run", "--rm", "--network", "none", image, "sh", "-c", script, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got\n"
        assert process.wait(20) == 9


def test_killing_the_command_leaves_nothing(cli: Knarr, image: str) -> None:
    with cli.popen(
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "sh",
        "-c",
        "echo $HOSTNAME; sleep 1000",
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    deadline = time.monotonic() + 20
    while cli.ok("ps", "-aq") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.requires("root", "cgroup-v1")
def test_limits(knarr: Knarr, busybox: str) -> None:
    def read(path: str, *flags: str) -> str:
        return run(knarr, busybox, "cat", f"/sys/fs/cgroup/{path}", flags=flags)

    assert read("memory/memory.limit_in_bytes", "-m", "64m") == str(64 << 20)
    assert read("pids/pids.max", "--pids-limit", "77") == "77"
    assert read("cpu/cpu.cfs_quota_us", "--cpus", "0.5") == "50000"
    assert read("cpu/cpu.shares", "--cpu-shares", "300") == "300"
    assert read("cpuset/cpuset.cpus", "--cpuset-cpus", "0") == "0"
    hog = knarr(
        "run", "--name", "hog", "-m", "16m", "--network", "none", busybox, "sh", "-c", "tail /dev/zero"
    )
    assert hog.code == 137
    assert knarr.ok("inspect", "-f", "{{.State.OOMKilled}}", "hog") == "true"


def test_plan_prints_and_runs_nothing(cli: Knarr, image: str) -> None:
    out = cli.ok("run", "--plan", "--network", "none", "-v", "/tmp:/data", image, "echo", "hi")
    assert "# mounts[" in out and "exec echo hi" in out
    assert cli.ok("ps", "-aq") == ""
    assert '"ociVersion"' in cli.ok("run", "--print-spec", image)


def test_a_new_volume_begins_with_the_images_content(cli: Knarr, image: str) -> None:
    listed = run(cli, image, "ls", "/etc", flags=("-v", "fresh:/etc"))
    assert "passwd" in listed.split()
    run(cli, image, "rm", "/etc/passwd", flags=("-v", "fresh:/etc"))
    assert "passwd" not in run(cli, image, "ls", "/etc", flags=("-v", "fresh:/etc")).split()
    assert run(cli, image, "ls", "/etc", flags=("-v", "bare:/etc:nocopy")).split() == [
        "hostname",
        "hosts",
        "resolv.conf",
    ]
    assert run(cli, image, "stat", "-c", "%a", "/tmp", flags=("-v", "sticky:/tmp")) == "1777"


def test_a_volume_is_filled_whenever_a_new_container_finds_it_empty(cli: Knarr, image: str) -> None:
    def listed(flag: str) -> list[str]:
        return run(cli, image, "ls", "/bin", flags=("-v", flag)).split()

    assert run(cli, image, "ls", "/nothing", flags=("-v", "data:/nothing")) == ""
    assert "busybox" in listed("data:/bin")
    assert not list((cli.root / "volumes/data").glob("filling"))
    # What somebody has put there is all there is.
    run(cli, image, "touch", "/other/file", flags=("-v", "used:/other"))
    assert run(cli, image, "ls", "/etc", flags=("-v", "used:/etc")).split()[0] == "file"
    # A container that is started again finds what it left there: nothing, not even its command.
    words = ("-v", "own:/bin", image, "sh", "-c", "echo filled; busybox rm -rf /bin/*")
    cid = cli.ok("create", "--network", "none", *words)
    assert cli.ok("start", "-a", cid) == "filled"
    assert cli("start", "-a", cid).code == 127


def test_a_device_by_another_name(cli: Knarr, image: str) -> None:
    script = "test -c /dev/nothing && echo x >/dev/nothing && wc -c </dev/nothing && ls /dev/some"
    (cli.home / "devices").mkdir()
    os.mknod(cli.home / "devices/zero", 0o20666, os.makedev(1, 5))
    flags = ("--device", "/dev/null:/dev/nothing", "--device", f"{cli.home}/devices:/dev/some")
    assert run(cli, image, "sh", "-c", script, flags=flags).split() == ["0", "zero"]


def test_removing_what_is_not_there(cli: Knarr) -> None:
    result = cli("rm", "-f", "nobody")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr.startswith("knarr: no such container: nobody")
    assert cli("rm", "nobody").code == 1


def test_more_processors_than_there_are(knarr: Knarr, busybox: str) -> None:
    refused = knarr("run", "--rm", "--cpus", "5000", busybox, "true")
    assert refused.code == 125
    assert refused.stderr.startswith("knarr: --cpus 5000: this machine has ")
    refused = knarr("run", "--rm", "--network", "none", "--cpuset-cpus", "5000", busybox, "true")
    assert refused.code == 125
    assert "not all of these are on this machine" in refused.stderr


def test_keeping_ones_id(user: Knarr, user_busybox: str) -> None:
    shared = user.home / "shared"
    shared.mkdir()
    os.chown(shared, user.uid or os.geteuid(), -1)
    flags = ("--userns", "keep-id", "-v", f"{shared}:/data", "-w", "/data")
    uid = str(user.uid or os.geteuid())
    assert run(user, user_busybox, "sh", "-c", "id -u; touch file", flags=flags) == uid
    assert str((shared / "file").stat().st_uid) == uid
    assert run(user, user_busybox, "id", "-u", flags=(*flags, "-u", "0")) == "0"
