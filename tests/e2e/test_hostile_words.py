"""Command lines with absurd values: one line, a hint, docker's exit code, nothing left. Never a traceback."""

from __future__ import annotations

import pytest

from harness.command import Knarr

pytestmark = [pytest.mark.requires("root", "overlay", "busybox")]

DIGITS = "9" * 5000  # more than Python reads
ODD = (
    "",
    "-1",
    DIGITS,
    "1e400",
    "nan",
    "٣",
    "a\nb",
    "\x1b[31m",
    "\udcff",
    "../..",
    "x" * 70_000,
    "a=b=c",
    "{{",
)


def refused(cli: Knarr, *words: str, codes: tuple[int, ...] = (1, 125)) -> None:
    result = cli(*words)
    shown = str(result)[:2000]
    assert result.code in codes, shown
    lines = result.stderr.splitlines()
    assert lines[0].startswith("knarr: ") and len(lines) <= 2, shown
    assert result.stderr.replace("\n", "").isprintable(), shown


@pytest.mark.parametrize(
    "option",
    (
        "--memory --memory-swap --cpus --ulimit --shm-size --stop-signal --stop-timeout --pids-limit --name --hostname "
        "-p -u --cap-add --device --sysctl --log-opt --network --userns --env-file --security-opt --oom-score-adj"
    ).split(),
)
def test_values_of_run(knarr: Knarr, busybox: str, option: str) -> None:
    for value in (DIGITS, "\x1b[31m\n", "٣=٣", "../../x:y:z"):
        refused(knarr, "run", "--rm", "--network", "none", option, value, busybox, "true")
    assert knarr.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    "words",
    [["--env-file", "/dev/zero"], ["--label-file", "/dev/zero"], ["--security-opt", "seccomp=/dev/zero"]],
)
def test_files_without_end(knarr: Knarr, busybox: str, words: list[str]) -> None:
    refused(knarr, "run", "--rm", *words, busybox, "true")


@pytest.mark.parametrize(
    "name", ["logs", "stop", "kill", "exec", "ps", "inspect", "rename", "port", "top", "tag", "rmi"]
)
def test_values_of_others(knarr: Knarr, busybox: str, name: str) -> None:
    knarr.ok("create", "--name", "one", busybox, "true")
    forms = {
        "logs": [["--since", "?", "one"], ["--until", "?", "one"], ["--tail", "?", "one"]],
        "stop": [["-t", "?", "one"]],
        "kill": [["-s", "?", "one"]],
        "exec": [
            ["-u", "?", "one", "true"],
            ["-w", "?", "one", "true"],
            ["--detach-keys", "?", "one", "true"],
        ],
        "ps": [["-n", "?"], ["--filter", "?"], ["--filter", "status=?"], ["--filter", "exited=?"]],
        "inspect": [["?"], ["--format", "{{index .Config ?}}", "one"]],
        "rename": [["one", "?"]],
        "port": [["one", "?"]],
        "top": [["one", "?"]],
        "tag": [[busybox, "?"]],
        "rmi": [["?"]],
    }
    for form in forms[name]:
        for value in ODD:
            result = knarr(name, *(word.replace("?", value) for word in form))
            shown = str(result)[:2000]
            assert "Traceback" not in result.stderr, shown
            assert result.code in (0, 1, 125), shown
            assert not result.code or result.stderr.startswith("knarr: "), shown
    assert knarr.ok("ps", "-a", "--format", "{{.Names}}") in ("one", "nan", "1e400")


def test_very_many_arguments(knarr: Knarr, busybox: str) -> None:
    many = ["x"] * 100_000
    assert knarr.ok("run", "--rm", "--network", "none", busybox, "sh", "-c", "echo $#", *many) == "99999"
    refused(knarr, "inspect", *many[:1])
