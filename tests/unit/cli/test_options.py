"""The command line's grammar, as docker's users type it."""

from __future__ import annotations

import pytest

from knarr.cli.container_flags import OPTIONS, container_options
from knarr.cli.detach_keys import to_hex
from knarr.cli.options import HelpWanted, Option, Parsed, parse
from knarr.cli.templates import render
from knarr.errors import UsageError

SAMPLE = (
    Option("tty", "", "flag", "t"),
    Option("interactive", "", "flag", "i"),
    Option("env", "", "many", "e"),
    Option("name", ""),
    Option("pull", "", choices=("always", "never")),
)


def read(*words: str) -> Parsed:
    return parse(SAMPLE, words, stops_at_argument=True)


def test_short_flags_are_joined_and_the_first_argument_ends_the_flags() -> None:
    parsed = read("-it", "image", "-t", "--name", "x")
    assert parsed.flag("tty") and parsed.flag("interactive")
    assert parsed.args == ("image", "-t", "--name", "x")


@pytest.mark.parametrize("words", [("-e", "A=1"), ("-eA=1",), ("--env", "A=1"), ("--env=A=1",), ("-e=A=1",)])
def test_every_way_to_give_a_value(words: tuple[str, ...]) -> None:
    assert read(*words, "x").many("env") == ("A=1",)


def test_the_last_text_wins_and_every_many_counts() -> None:
    parsed = read("--name", "a", "--name", "b", "-e", "A", "-e", "B", "x")
    assert parsed.text("name") == "b"
    assert parsed.many("env") == ("A", "B")


def test_a_flag_can_be_denied() -> None:
    assert not read("--tty=false", "x").flag("tty")


def test_double_dash_ends_the_flags() -> None:
    assert read("--", "-t").args == ("-t",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nope",), "unknown flag: --nope"),
        (("-z",), "unknown shorthand flag: 'z' in -z"),
        (("--name",), "flag needs an argument: --name"),
        (("-e",), "flag needs an argument: 'e' in -e"),
        (("--tty=perhaps",), "invalid argument 'perhaps' for --tty: not true or false"),
        (("--pull", "often"), "invalid argument 'often' for --pull: must be one of always, never"),
    ],
)
def test_what_is_wrong_is_named(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert caught.value.message == message


def test_help_is_asked_for() -> None:
    with pytest.raises(HelpWanted):
        read("--help")


def options(*words: str) -> object:
    return container_options(parse(OPTIONS, (*words, "busybox", "sh", "-c", "x"), stops_at_argument=True))


def test_container_options_are_checked_values() -> None:
    asked = container_options(
        parse(
            OPTIONS,
            (
                "-m",
                "64m",
                "--cpus",
                "1.5",
                "--ulimit",
                "nofile=10:20",
                "-l",
                "a=b",
                "-h",
                "box",
                "busybox",
                "true",
            ),
            stops_at_argument=True,
        )
    )
    assert asked.limits.memory == 64 << 20
    assert asked.limits.nano_cpus == 1_500_000_000
    assert asked.ulimits[0] == ("nofile", 10, 20)
    assert asked.labels == {"a": "b"}
    assert asked.hostname == "box"
    assert asked.command == ("true",)


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "1k"),
        ("-m", "lots"),
        ("--memory-swap", "1g"),
        ("-m", "1g", "--memory-swap", "1m"),
        ("--cpus", "1e9"),
        ("--cpus", "1", "--cpu-quota", "5"),
        ("--ulimit", "nofile"),
        ("--ulimit", "nofile=5:1"),
        ("--ulimit", "nonsense=5"),
        ("--device", "relative"),
        ("--device", "/dev/null:/dev/x:q"),
        ("-e", "=x"),
        ("--sysctl", "novalue"),
        ("--log-opt", "max-size=-"),
        ("--log-opt", "colour=red"),
        ("--env-file", "/nonexistent"),
        ("-v", "a:b:c:d"),
        ("-v", "/x:relative"),
        ("-v", "bad name:/x"),
        ("--mount", "type=bind,target=/x"),
        ("--mount", "type=what,target=/x"),
        ("--tmpfs", "relative"),
        ("--shm-size", "-1"),
        ("--pids-limit", "many"),
    ],
)
def test_absurd_values_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        options(*words)


def test_detach_keys() -> None:
    assert to_hex("ctrl-p,ctrl-q") == "1011"
    assert to_hex("") == ""
    assert to_hex("ctrl-@,a,ctrl-_") == "00611f"
    with pytest.raises(UsageError):
        to_hex("ctrl-")


def test_templates() -> None:
    value = {"Names": "a", "State": {"Running": True, "Pid": 3}, "List": ["x", "y"], "None": None}
    assert render("{{.Names}}: {{.State.Running}} {{.List}}", value) == "a: true [x y]"
    assert render("{{json .State}}", value) == '{"Running":true,"Pid":3}'
    assert render("{{index .List 1}}", value) == "y"
    for wrong in ("{{.Nope}}", "{{range .List}}", "{{.Names"):
        with pytest.raises(UsageError):
            render(wrong, value)


@pytest.mark.parametrize("words", [("-name", "x"), ("-name=x",), ("--name", "x"), ("--n", "x"), ("-nx",)])
def test_one_dash_is_as_good_as_two_where_it_is_wanted(words: tuple[str, ...]) -> None:
    options = (Option("name", "", short="n"), Option("all", "", "flag", "a"))
    parsed = parse(options, ("-all", *words, "xall", "=a"), stops_at_argument=False, one_dash=True)
    assert parsed.args == ("xall", "=a")
    assert parsed.flag("all")
    assert parsed.text("name") == "x"
