"""An ordinary user as root of their own user namespace: ids, signals, the same directories, files of mapped users."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.command import Knarr

pytestmark = pytest.mark.requires("userns", "newuidmap")

AGAIN = "facts.euid and userns.reexec_in_userns(facts)\n"


def test_the_same_user_with_the_same_directories(
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_user("print(paths, flush=True)\n" + AGAIN + "print(facts.rootless, os.getgroups())")
    assert done.returncode == 0, done.stderr
    outside, inside, rest = done.stdout.splitlines()
    assert outside == inside
    assert rest == "True []"


def test_files_of_mapped_users_can_be_made_and_deleted(
    as_user: Callable[..., subprocess.CompletedProcess[str]], user: Knarr
) -> None:
    made = as_user(
        AGAIN + "make_directories(paths)\n"
        "top = paths.root + '/tree'\n"
        "os.makedirs(top + '/dir')\n"
        "for i in (0, 1, 65000):\n"
        "    open(f'{top}/dir/{i}', 'w').close()\n"
        "    os.chown(f'{top}/dir/{i}', i, i)\n"
        "os.chown(top + '/dir', 33, 33)\n"
        "os.chmod(top + '/dir', 0o700)\n"
    )
    assert made.returncode == 0, made.stderr
    tree = user.root / "tree"
    assert tree.stat().st_uid == user.uid
    assert (tree / "dir").stat().st_uid not in (0, user.uid)
    gone = as_user(
        "userns.rmtree_in_userns(paths.root + '/tree')\nuserns.rmtree_in_userns(paths.root + '/tree')"
    )
    assert gone.returncode == 0, gone.stderr
    assert not tree.exists()


def test_a_tree_of_ones_own_needs_no_namespace(
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_user(
        "os.makedirs('t/closed'); open('t/closed/f', 'w').close(); os.chmod('t/closed', 0)\n"
        "class Nobody:\n"
        "    euid = property(lambda self: 1 / 0)\n"
        "userns.rmtree_in_userns(os.path.abspath('t'), Nobody())\n"
        "print(os.path.exists('t'))"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(("shell", "code"), [("exit 5", 5), ("kill -9 $$", 137), ("exit 0", 0)])
def test_the_exit_code_comes_back(
    as_user: Callable[..., subprocess.CompletedProcess[str]], shell: str, code: int
) -> None:
    assert as_user("userns.reexec_in_userns(facts, ['/bin/sh', '-c', sys.argv[1]])", shell).returncode == code


def test_a_program_that_is_not_there(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = as_user("userns.reexec_in_userns(facts, ['/no/such'])")
    assert "CommandNotFound: exec /no/such: no such file or directory" in done.stderr


def test_one_id_without_ranges(as_user: Callable[..., subprocess.CompletedProcess[str]], user: Knarr) -> None:
    done = as_user(
        "facts = facts._replace(subuids=())\n"
        "userns.reexec_in_userns(facts, ['/bin/sh', '-c', 'id -u; cat /proc/self/gid_map; touch one'])"
    )
    assert done.stdout.split() == ["0", "0", str(user.uid or os.getegid()), "1"]
    assert (user.home / "one").stat().st_uid == (user.uid or os.geteuid())


def test_a_range_of_somebody_else_is_refused_in_their_words(
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_user(
        "from knarr.plan.facts import SubIds\n"
        "facts = facts._replace(subuids=(SubIds(9_000_000, 10),))\n"
        "userns.reexec_in_userns(facts, ['/bin/true'])"
    )
    assert (
        "StepFailed: linux.uidMappings: newuidmap: uid range [1-11) -> [9000000-9000010) not allowed"
        in done.stderr
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_go_through(
    start_as_user: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    script = f"trap 'exit 3' {int(number)}; echo up; while :; do sleep 0.02; done"
    with start_as_user("userns.reexec_in_userns(facts, ['/bin/sh', '-c', sys.argv[1]])", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(30) == 3


def test_killing_the_command_kills_what_it_became(
    start_as_user: Callable[..., subprocess.Popen[str]],
) -> None:
    script = "echo $$; exec sleep 100"
    with start_as_user("userns.reexec_in_userns(facts, ['/bin/sh', '-c', sys.argv[1]])", script) as process:
        assert process.stdout is not None
        inner = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
        from knarr.host.native import wait_process

        assert wait_process(inner, 30)
        os.close(inner)


def test_a_stored_plan_has_host_steps_and_others(
    as_user: Callable[..., subprocess.CompletedProcess[str]], user: Knarr
) -> None:
    """As a container's tear-down: the host's steps outside (a socket's directory), the layer's inside."""
    done = as_user(
        AGAIN + "os.makedirs('layer/d'); open('layer/d/f', 'w').close()\n"
        "os.chown('layer/d', 5, 5); os.chmod('layer/d', 0o700)\n"
    )
    assert done.returncode == 0, done.stderr
    done = as_user(
        "from knarr.plan.step import to_wire\n"
        "here = os.getcwd()\n"
        "steps = [Step('mkdir', (here + '/made', '0755'), 'host.run'), Step('rmtree', (here + '/layer',), 'rootfs'),\n"
        "         Step('rmdir', (here + '/made',), 'host.run'), Step('mkdir', (here + '/last', '0755'), 'host')]\n"
        "open('plan', 'wb').write(to_wire(steps))\n"
        "native.execute_file('plan', rootless=True)\n"
        "native.execute_file('no-such-plan', rootless=True)\n"
        "print(sorted(os.listdir()))"
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout
    assert "'last'" in names
    assert "'layer'" not in names
    assert "'made'" not in names
    assert (user.home / "last").stat().st_uid == (user.uid or os.geteuid())


def test_a_failed_step_inside_is_told_as_its_own(
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_user(
        "steps = [Step('unlink', ('/no/such',), 'x'), Step('mkdir', ('/proc/x', '0755'), 'root.path')]\n"
        "userns.execute_in_userns(steps)"
    )
    assert "StepFailed: root.path: make directory /proc/x: " in done.stderr
    assert Path("/proc/x").exists() is False


def test_an_interrupt_at_the_terminal_arrives_once(
    start_as_user: Callable[..., subprocess.Popen[str]],
) -> None:
    """The terminal signals its whole foreground group: the command must not pass on what its child got already."""
    master, slave = os.openpty()
    counter = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "print('up', flush=True)\n"
        "signal.sigwait({signal.SIGINT})\n"
        "raise SystemExit(2 if signal.sigtimedwait({signal.SIGINT}, 0.3) else 1)"
    )
    code = (
        "import fcntl, termios\n"
        "os.setsid(); fcntl.ioctl(int(sys.argv[2]), termios.TIOCSCTTY, 0)\n"
        "userns.reexec_in_userns(facts, [sys.executable, '-c', sys.argv[1]])"
    )
    with start_as_user(code, counter, str(slave), pass_fds=(slave,)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.write(master, b"\x03")
        assert process.wait(30) == 1
    os.close(master)
    os.close(slave)
