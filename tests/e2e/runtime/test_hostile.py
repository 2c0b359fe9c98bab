"""Who would harm the runtime from outside of a container: a bundle's author, another user, two commands at once."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.machine import UID, USER
from harness.runtime import Bundle, Runtime

pytestmark = [pytest.mark.requires("root", "busybox"), pytest.mark.timeout(300)]

SECRET = "a secret of the container"


def one_line(result: Any) -> str:
    """Refused in one line, perhaps with a hint, and never with a traceback."""
    assert result.code == 1, str(result)
    lines = result.stderr.splitlines()
    assert lines and lines[0].startswith("knarr-runtime: "), str(result)
    assert len(lines) <= 2, str(result)
    return str(lines[0])


def nothing(runtime: Runtime) -> bool:
    return not runtime.containers.exists() or os.listdir(runtime.containers) == []


# ---- ids and words ----


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/etc",
        "../x",
        "a\nb",
        "a b",
        "a\x1b[31m",
        "é",
        "x" * 1025,
        "a*",
        "$(id)",
    ],
)
def test_ids(runtime: Runtime, bundle: Bundle, name: str) -> None:
    runtime.containers.mkdir(exist_ok=True)
    before = sorted(p.name for p in runtime.home.rglob("*"))
    for words in (
        ("create", "-b", bundle("true"), "--", name),
        ("delete", "--force", "--", name),
        ("state", "--", name),
    ):
        result = runtime(*words)
        assert result.code == 1, str(result)
        assert "Traceback" not in result.stderr and "\x1b" not in result.stderr, str(result)
    assert sorted(p.name for p in runtime.home.rglob("*")) == before


# ---- bundles ----


def damaged(bundle: Bundle, text: bytes) -> str:
    where = bundle("true")
    Path(where, "config.json").write_bytes(text)
    return where


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"\0" * 100, b'{"ociVersion": 1}', b'{"ociVersion": "1.0.0"}',
        b"[" * 100_000, b'{"a":' * 50_000, b'{"ociVersion":"1.2.0","process":' + b"[" * 5000, b"9" * 5000,
        b'{"ociVersion":"1.2.0","root":{"path":"\\ud800"},"process":{"cwd":"/","args":["true"]}}',
    ],
    ids=range(14),
)  # fmt: skip
def test_documents_that_are_none(runtime: Runtime, bundle: Bundle, text: bytes) -> None:
    one_line(runtime("run", "-b", damaged(bundle, text), "one"))
    assert nothing(runtime)


def test_a_document_without_end(runtime: Runtime, bundle: Bundle) -> None:
    where = bundle("true")
    config = Path(where, "config.json")
    with config.open("r+b") as file:
        file.truncate(1 << 40)
    assert "larger than" in one_line(runtime("run", "-b", where, "one"))
    for kind in (lambda: os.mkfifo(config), lambda: config.symlink_to("/dev/zero"), lambda: config.mkdir()):
        config.unlink()
        kind()
        assert "config.json" in one_line(runtime("run", "-b", where, "one"))
        if config.is_dir():
            config.rmdir()


def test_a_hook_that_never_ends(runtime: Runtime, bundle: Bundle) -> None:
    """Its time is up, it is killed, and nothing is left of the container."""
    for kind in ("createRuntime", "createContainer", "startContainer", "poststart"):
        hook = {"path": "/bin/busybox", "args": ["sleep", "1000"], "timeout": 1}
        said = one_line(runtime("run", "-b", bundle("true", hooks={kind: [hook]}), "one"))
        assert kind in said
        assert nothing(runtime)


# ---- other users ----


@pytest.fixture
def other(machine: Any) -> dict[str, Any]:
    """What `subprocess` is told to be somebody else."""
    assert pwd.getpwnam(USER).pw_uid == UID
    return {"user": UID, "group": UID, "extra_groups": [], "cwd": "/"}


def test_what_another_user_sees(runtime: Runtime, bundle: Bundle, other: dict[str, Any]) -> None:
    runtime.home.chmod(0o755)
    runtime.create("one", bundle("sleep", "1000", process={"env": [f"PASSWORD={SECRET}", "PATH=/bin"]}))
    place = runtime.containers / "one"
    assert stat.S_IMODE(runtime.containers.stat().st_mode) == 0o711
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    names = os.listdir(place)
    assert "config.json" in names and "exec.fifo" in names
    for name in names:
        for word in (["cat", f"{place}/{name}"], ["dd", "if=/dev/zero", f"of={place}/{name}", "count=0"]):
            done = subprocess.run(["timeout", "5", *word], capture_output=True, **other)
            assert done.returncode not in (0, 124), f"{word}: {done}"
            assert SECRET.encode() not in done.stdout
    assert subprocess.run(["ls", runtime.containers], capture_output=True, **other).returncode
    assert subprocess.run(["mkdir", runtime.containers / "two"], capture_output=True, **other).returncode
    for words in (["state", "one"], ["start", "one"], ["kill", "one", "KILL"], ["delete", "--force", "one"]):
        done = subprocess.run(
            [*runtime.argv, *words], capture_output=True, text=True, env=runtime.env, **other
        )
        assert done.returncode != 0 and "Traceback" not in done.stderr, done
    assert runtime.status("one") == "created"
    pid = runtime.state("one")["pid"]
    assert subprocess.run(["cat", f"/proc/{pid}/environ"], capture_output=True, **other).returncode


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory as /tmp, in which another user was first."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    yield place
    shutil.rmtree(place)


def test_a_pid_file_where_others_may_write(
    runtime: Runtime, bundle: Bundle, shared: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    """Whatever they have put in its place, or beside it, is not followed."""
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    for name in ("pid", ".pid~"):
        (shared / name).symlink_to(precious)
        os.lchown(shared / name, UID, UID)
    runtime.create("one", bundle("sleep", "1000"), "--pid-file", str(shared / "pid"))
    assert precious.read_text() == "untouched"
    assert not (shared / "pid").is_symlink()
    assert int((shared / "pid").read_text()) == runtime.state("one")["pid"]
    assert os.listdir(shared) == ["pid"]


def test_a_pid_file_that_cannot_be(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    for path in (tmp_path / "missing/pid", tmp_path, Path("/proc/pid"), Path("/dev/null/pid")):
        one_line(runtime("run", "-d", "-b", bundle("sleep", "1000"), "--pid-file", str(path), "one"))
        assert nothing(runtime)


def test_the_environment_of_another(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """`sudo` may leave XDG_RUNTIME_DIR: root's containers are not put into another user's directory."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, UID, UID)
    argv = [word for word in runtime.argv if word not in ("--root", str(runtime.containers))]
    env = {**runtime.env, "XDG_RUNTIME_DIR": str(theirs)}
    subprocess.run([*argv, "list", "-q"], env=env, check=True, capture_output=True)
    subprocess.run([*argv, "run", "-b", bundle("true"), "knarr-test-env"], env=env, check=True)
    assert os.listdir(theirs) == []


def test_sockets_and_logs_that_are_none(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    where = bundle("sh", process={"terminal": True})
    for path in (tmp_path / "missing", tmp_path, Path("/dev/null"), tmp_path / ("x" * 200)):
        one_line(runtime("create", "-b", where, "--console-socket", str(path), "one"))
        assert nothing(runtime)
    for log in (tmp_path / "missing/log", tmp_path, Path("/proc/version")):
        result = runtime("--log", str(log), "--log-format", "json", "state", "nobody")
        assert result.code == 1 and "does not exist" in result.stderr, str(result)
    log = tmp_path / "log"
    runtime("--log", str(log), "--log-format", "json", "state", "a\x1b]0;title\x07\nb")
    lines = log.read_text().splitlines()
    assert all(json.loads(line)["level"] == "error" for line in lines), lines
    assert "\x1b" not in log.read_text()


# ---- two at once ----


def at_once(runtime: Runtime, *commands: tuple[str, ...]) -> list[int]:
    processes = [
        runtime.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in commands
    ]
    return [process.wait(60) for process in processes]


def test_one_id_is_taken_once(runtime: Runtime, bundle: Bundle) -> None:
    words = ("create", "-b", bundle("sleep", "1000"), "one")
    assert sorted(at_once(runtime, *[words] * 6)) == [0, 1, 1, 1, 1, 1]
    assert runtime.status("one") == "created"
    assert sorted(at_once(runtime, *[("start", "one")] * 6)) == [0, 1, 1, 1, 1, 1]
    assert runtime.status("one") == "running"
    codes = at_once(runtime, *[("delete", "--force", "one")] * 4)
    assert 0 in codes, codes
    assert os.listdir(runtime.containers) == []


@pytest.mark.parametrize("verb", ["start", "create", "exec", "kill"])
def test_deleted_meanwhile(runtime: Runtime, bundle: Bundle, verb: str) -> None:
    """Whatever comes first: afterwards it is gone, or one more `delete --force` removes it."""
    where = bundle("sleep", "1000")
    words: dict[str, tuple[str, ...]] = {
        "start": ("start", "one"),
        "create": ("create", "-b", where, "one"),
        "exec": ("exec", "one", "sleep", "0.01"),
        "kill": ("kill", "one", "KILL"),
    }
    for _ in range(6):
        if verb != "create":
            runtime.create("one", where)
        if verb in ("exec", "kill"):
            runtime.ok("start", "one")
        at_once(runtime, words[verb], ("delete", "--force", "one"))
        shown = runtime("state", "one")
        assert shown.code == 0 or "does not exist" in shown.stderr, str(shown)
        runtime("delete", "--force", "one")
        assert os.listdir(runtime.containers) == []
