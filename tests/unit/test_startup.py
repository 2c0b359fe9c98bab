"""What a command imports is what it costs to start: these modules must be absent after the commands that hurry.

A stopwatch would flake; a list does not. tests/e2e/test_startup.py asks the same of commands that reach their end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.startup import HEAVY

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Every command that someone waits for, as it is typed most.
COMMANDS = {
    "run": "run --rm -it --name web --hostname h -e A=b --env-file {file} -v /a:/b:ro --mount type=tmpfs,target=/t "
    "--tmpfs /x:size=1m -p 127.0.0.1:8080:80/tcp -P --network bridge -w / -u 1:2 --entrypoint sh --read-only "
    "--cap-add net_admin --cap-drop all --privileged --security-opt no-new-privileges --device /dev/null --memory 1g "
    "--memory-swap 2g --cpus 1.5 --cpu-shares 2 --cpuset-cpus 0 --pids-limit 5 --ulimit nofile=10:20 --sysctl "
    "net.a=1 --shm-size 1m --init --label a=b --stop-signal TERM --stop-timeout 3 --pull never --platform linux/amd64 "
    "--add-host a:1.2.3.4 --dns 1.1.1.1 --userns host --log-driver none --log-opt max-size=1m missing:image true",
    "run-plain": "run --pull never missing:image",
    "create": "create --pull never missing:image",
    "exec": "exec -it -e A=b -u 1 -w / missing sh -c true",
    "start": "start missing",
    "stop": "stop -t 1 missing",
    "ps": "ps -a",
    "ps-quiet": "ps -q --filter status=running",
    "logs": "logs --tail 5 missing",
    "inspect": "inspect missing",
    "kill": "kill missing",
    "wait": "wait missing",
    "version": "--version",
}

PROGRAM = """
import sys
from knarr.cli.main import main

code = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.write("\\nMODULES " + " ".join(sorted(sys.modules)))
"""


def loaded(words: list[str], home: Path) -> set[str]:
    """The modules in sys.modules after a command, started as lean as the installed command is."""
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{PROGRAM}",
            *words,
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "KNARR_ROOT": str(home / "root"),
            "KNARR_RUN": str(home / "run"),
        },
        timeout=60,
    )
    _, found, names = done.stderr.partition("\nMODULES ")
    assert found, done.stderr
    return set(names.split())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("C=d\n")
    words = [word.format(file=file) for word in COMMANDS[name].split()]
    heavy = sorted(loaded(words, tmp_path) & set(HEAVY))
    assert not heavy, (
        f"`knarr {' '.join(words[:2])} …` imports {' '.join(heavy)}; find by whom with python -X importtime"
    )


def test_help_is_not_slow_either(tmp_path: Path) -> None:
    assert not loaded(["run", "--help"], tmp_path) & {"argparse", "subprocess", "urllib3", "rich", "sqlite3"}


def test_the_interpreter_alone_brings_none_of_them() -> None:
    """Else the list would forbid what nobody can avoid."""
    shown = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys; print(__import__('_json') and ' '.join(sys.modules))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(shown.stdout.split()) & set(HEAVY)
