"""The words of knarr-runtime's command line: what runc's and crun's users type is understood, the rest is told."""

from __future__ import annotations

import os
import subprocess

import pytest

from harness.runtime import Bundle, Runtime

pytestmark = pytest.mark.requires("root")


@pytest.mark.parametrize(
    "words",
    [
        ("--bundle", "{}", "c1"),
        ("c1", "--bundle", "{}"),
        ("c1", "-b={}"),
        ("-bundle", "{}", "c1"),  # as Go's programs take it
        ("-bundle={}", "c1"),
        ("--b", "{}", "c1"),
        ("--no-subreaper", "-b", "{}", "c1"),
    ],
)
def test_a_bundle_in_every_way(runtime: Runtime, bundle: Bundle, words: tuple[str, ...]) -> None:
    where = bundle("true")
    argv = ("create", *(word.format(where) for word in words))
    process = runtime.popen(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert process.wait(60) == 0
    assert runtime.state("c1")["bundle"] == where


def test_help_and_version_in_every_way(runtime: Runtime) -> None:
    for words in (("help",), ("-h",), ("-?",), ("--help",), ()):
        assert runtime.ok(*words).startswith("Usage: knarr-runtime [OPTIONS] COMMAND")
    for words in (("help", "create"), ("create", "-h"), ("create", "-?"), ("create", "-help")):
        assert runtime.ok(*words).startswith("Usage: knarr-runtime create [OPTIONS] ID")
    for words in (("-v",), ("-V",), ("-version",)):
        assert runtime.ok(*words).startswith("knarr-runtime version ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("help", "fly"), 1, "'fly' is not a knarr-runtime command"),
        (("exec",), 1, "exec: no arguments given"),
        (("exec", "--nosuch", "c1"), 1, "unknown flag: --nosuch"),
        (("exec", "c1", "true"), 255, "container 'c1' does not exist"),
        (("kill", "-r", "["), 1, "invalid pattern '['"),
    ],
)
def test_one_line_and_the_code_that_runc_ends_with(
    runtime: Runtime, words: tuple[str, ...], code: int, message: str
) -> None:
    result = runtime(*words)
    assert result.code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_root_that_is_no_directory(runtime: Runtime, bundle: Bundle) -> None:
    file = runtime.home / "file"
    file.touch()
    result = runtime("--root", str(file), "create", "-b", bundle("true"), "c1")
    assert (result.code, result.stderr) == (
        1,
        f"knarr-runtime: error: cannot keep containers in {file}: not a directory\n",
    )


def test_a_document_that_is_none_is_named(runtime: Runtime, bundle: Bundle) -> None:
    where = bundle("true")
    path = f"{where}/config.json"
    with open(path, "w", encoding="ascii"):
        pass
    result = runtime("run", "-b", where, "c1")
    assert (result.code, result.stderr) == (
        1, f"knarr-runtime: error: {path}: JSON: no value at offset 0\n",
    )  # fmt: skip
    runtime.create("c1", bundle("true"))
    assert "standard input: JSON: no value" in runtime("update", "-r", "-", "c1", stdin="").stderr
    assert f"{path}: JSON: no value" in runtime("exec", "-p", path, "c1").stderr
    runtime.ok("update", "--memory=", "c1")


@pytest.mark.requires("cgroup-v1")
def test_a_limit_that_is_too_low_to_start_is_named(runtime: Runtime, bundle: Bundle) -> None:
    where = bundle("true", linux={"resources": {"memory": {"limit": 4096}}})
    result = runtime("run", "-b", where, "c1")
    assert "linux.resources.memory.limit: 4096 bytes are too little to start" in result.stderr


def test_a_working_directory_that_is_gone(runtime: Runtime) -> None:
    gone = runtime.home / "gone"
    gone.mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    result = subprocess.run(
        ["sh", "-c", script, str(gone), *runtime.argv, "run", "c1"], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (
        1, "knarr-runtime: error: the working directory: no such file or directory\n",
    )  # fmt: skip


def test_output_that_nobody_takes_is_told(runtime: Runtime) -> None:
    with open("/dev/full", "wb") as full:
        process = runtime.popen("features", stdout=full, stderr=subprocess.PIPE)
        assert process.communicate(timeout=20)[1] == (
            b"knarr-runtime: error: standard output: no space left on device\n"
        )
    assert process.returncode == 1


def test_a_pid_file_that_cannot_be_written_leaves_no_container(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime("create", "-b", bundle("true"), "--pid-file", "/proc/nowhere/pid", "c1")
    assert (result.code, result.stderr) == (
        1,
        "knarr-runtime: error: cannot write the pid file /proc/nowhere/pid: no such file or directory\n",
    )
    assert os.listdir(runtime.containers) == []


def test_a_signal_for_all_that_a_pattern_finds(runtime: Runtime, bundle: Bundle) -> None:
    where = bundle("sleep", "1000")
    for container_id in ("a1", "a2", "b1"):
        runtime.create(container_id, where)
    runtime.ok("kill", "--regex", "^a", "KILL")
    for container_id in ("a1", "a2"):
        runtime.until(container_id, "stopped")
    assert runtime.status("b1") == "created"


def test_a_specification_under_another_name(runtime: Runtime) -> None:
    runtime.ok("spec", "--bundle", str(runtime.home), "--file", "other.json")
    assert {"other.json", "config.json"} & set(os.listdir(runtime.home)) == {"other.json"}
