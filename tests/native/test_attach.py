"""The foreground client, between a terminal or pipes and a monitor that the test plays."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from native.plans import Native, Rootfs, pair


class Front:
    """`attach`, and the monitor's end of its connection."""

    def __init__(self, native: Native, *words: str, terminal: bool = False, **streams: object) -> None:
        self.monitor, theirs = pair()
        self.master = -1
        given: dict[str, object] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        if terminal:
            self.master, slave = pty.openpty()
            self.before = termios.tcgetattr(slave)
            given |= {"stdin": slave, "stdout": slave}
        self.process = subprocess.Popen(
            [native.path, "attach", str(theirs.fileno()), *words],
            pass_fds=[theirs.fileno()], env=native.env, **(given | streams),  # type: ignore[call-overload]
        )  # fmt: skip
        theirs.close()
        if terminal:
            os.close(slave)

    def says(self) -> bytes:
        return self.monitor.recv(65536)

    def shown(self, text: bytes) -> None:
        """Waits until the terminal has shown that."""
        seen = b""
        while text not in seen:
            assert select.select([self.master], [], [], 20)[0], seen
            seen += os.read(self.master, 4096)

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.master)

    def end(self) -> None:
        self.monitor.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        if self.master >= 0:
            os.close(self.master)


@pytest.fixture
def front(native: Native) -> Iterator[object]:
    fronts: list[Front] = []

    def start(*words: str, **more: object) -> Front:
        fronts.append(Front(native, *words, **more))  # type: ignore[arg-type]
        return fronts[-1]

    yield start
    for each in fronts:
        each.end()


def test_relays_and_exits_as_the_container_does(front) -> None:  # type: ignore[no-untyped-def]
    f = front()
    f.monitor.send(b"hpipe stdin")
    f.process.stdin.write(b"typed")
    f.process.stdin.close()
    assert f.says() == b"ityped"
    f.monitor.send(b"k")
    assert f.says() == b"c"
    for message in (b"oout", b"eerr", b"o more", b"?unknown", b"o", b"x42"):
        f.monitor.send(message)
    assert f.process.wait(20) == 42
    assert (f.process.stdout.read(), f.process.stderr.read()) == (b"out more", b"err")


def test_one_message_of_input_at_a_time(front) -> None:  # type: ignore[no-untyped-def]
    f = front()
    f.monitor.send(b"hpipe stdin")
    f.process.stdin.write(b"one")
    f.process.stdin.flush()
    assert f.says() == b"ione"
    f.process.stdin.write(b"two")
    f.process.stdin.flush()
    f.monitor.settimeout(0.2)
    with pytest.raises(TimeoutError):
        f.says()
    f.monitor.settimeout(20)
    f.monitor.send(b"k")
    assert f.says() == b"itwo"


@pytest.mark.parametrize(("words", "hello"), [(["nostdin"], b"hpipe stdin"), ([], b"hpipe")])
def test_leaves_input_alone(front, words: Sequence[str], hello: bytes) -> None:  # type: ignore[no-untyped-def]
    """What a shell's next command is to read must not be eaten by `knarr run` without -i."""
    reader, writer = os.pipe()
    os.write(writer, b"for somebody else")
    f = front(*words, stdin=reader)
    f.monitor.send(hello)
    assert f.says() == b"q"
    f.monitor.send(b"x0")
    assert f.process.wait(20) == 0
    assert os.read(reader, 100) == b"for somebody else"
    os.close(reader)
    os.close(writer)


def test_a_monitor_that_vanishes(front) -> None:  # type: ignore[no-untyped-def]
    f = front()
    f.monitor.send(b"hpipe")
    f.says()
    f.monitor.close()
    assert f.process.wait(20) == 125
    assert f.process.stderr.read() == b"knarr: the container's monitor has vanished\n"


def test_a_reader_that_goes_away(front) -> None:  # type: ignore[no-untyped-def]
    """`knarr run … | head -1` ends, as any program would."""
    f = front("sigproxy")
    f.monitor.send(b"hpipe")
    f.process.stdout.close()
    f.monitor.send(b"otext")
    assert f.process.wait(20) == -signal.SIGPIPE


def test_signals_are_forwarded(front) -> None:  # type: ignore[no-untyped-def]
    f = front("sigproxy")
    f.monitor.send(b"hpipe")
    assert f.says() == b"q"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        f.process.send_signal(number)
        assert f.says() == b"s%d" % number
    f.monitor.send(b"x143")
    assert f.process.wait(20) == 143


def test_signals_end_it_without_sigproxy(front) -> None:  # type: ignore[no-untyped-def]
    f = front()
    f.monitor.send(b"hpipe")
    assert f.says() == b"q"
    f.process.terminate()
    assert f.process.wait(20) == -signal.SIGTERM


def test_a_terminal_is_raw_and_is_restored(front) -> None:  # type: ignore[no-untyped-def]
    f = front("tty", terminal=True)
    fcntl.ioctl(f.master, termios.TIOCSWINSZ, struct.pack("4H", 33, 99, 0, 0))
    f.monitor.send(b"htty stdin")
    assert f.says() == b"w33 99"
    assert not f.settings()[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    os.write(f.master, b"\x03")
    assert f.says() == b"i\x03"
    fcntl.ioctl(f.master, termios.TIOCSWINSZ, struct.pack("4H", 20, 40, 0, 0))
    f.process.send_signal(signal.SIGWINCH)
    assert f.says() == b"w20 40"
    f.monitor.send(b"x7")
    assert f.process.wait(20) == 7
    assert f.settings() == f.before


@pytest.mark.parametrize("how", ["vanished", "terminated"])
def test_a_terminal_is_restored_on_every_way_out(front, how: str) -> None:  # type: ignore[no-untyped-def]
    f = front("tty", terminal=True)
    f.monitor.send(b"htty stdin")
    assert f.says().startswith(b"w")
    if how == "vanished":
        f.monitor.close()
    else:
        f.process.terminate()
    assert f.process.wait(20) in (125, -signal.SIGTERM)
    assert f.settings() == f.before


def test_detach_keys(front) -> None:  # type: ignore[no-untyped-def]
    f = front("tty", "keys=1011", terminal=True)
    f.monitor.send(b"htty stdin")
    assert f.says().startswith(b"w")
    os.write(f.master, b"a\x10b")  # the beginning of them, then something else
    got = f.says()
    f.monitor.send(b"k")
    if got == b"ia":
        got += f.says()[1:]
        f.monitor.send(b"k")
    assert got == b"ia\x10b"
    os.write(f.master, b"\x10")
    time.sleep(0.05)
    os.write(f.master, b"\x11")
    assert f.says() == b"d"
    f.monitor.close()
    assert f.process.wait(20) == 0
    f.shown(b"\n")
    assert f.settings() == f.before


def test_what_was_typed_before_the_detach_keys_arrives(front) -> None:  # type: ignore[no-untyped-def]
    f = front("keys=1011")
    f.monitor.send(b"hpipe stdin")
    f.process.stdin.write(b"\x10\x10last\x10\x11never")
    f.process.stdin.flush()
    assert f.says() == b"i\x10\x10last"
    assert f.says() == b"d"
    f.monitor.close()
    assert f.process.wait(20) == 0


def test_a_slow_terminal_does_not_stop_signals(front) -> None:  # type: ignore[no-untyped-def]
    """Nobody reads its output, yet Ctrl-C works."""
    f = front("sigproxy")
    f.monitor.send(b"hpipe")
    assert f.says() == b"q"
    f.monitor.settimeout(0.5)
    try:
        for _ in range(30):
            f.monitor.send(b"o" + b"x" * 32000)
    except TimeoutError:
        pass
    f.monitor.settimeout(20)
    f.process.send_signal(signal.SIGINT)
    assert f.says() == b"s2"


@pytest.mark.parametrize("words", [[], ["x"], ["77"], ["0", "what"], ["0", "keys=1"], ["0", "keys=zz"]])
def test_bad_words(native: Native, words: Sequence[str]) -> None:
    result = subprocess.run(
        [native.path, "attach", *words], capture_output=True, stdin=subprocess.DEVNULL, env=native.env
    )
    assert result.returncode == 125
    assert b"usage" in result.stderr


@pytest.mark.requires("root", "overlay", "busybox")
def test_with_a_real_monitor(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.shell("cat; echo end >&2; exit 9"), "stdin=2").started()
    connection = running.primary.detach()
    result = subprocess.run(
        [native.path, "attach", str(connection)], pass_fds=[connection], input=b"a line\n" * 100_000,
        capture_output=True, env=native.env, timeout=60,
    )  # fmt: skip
    os.close(connection)
    assert (result.returncode, result.stderr) == (9, b"end\n")
    assert result.stdout == b"a line\n" * 100_000
    assert running.wait() == 0


@pytest.mark.requires("root", "overlay", "busybox")
def test_a_file_as_output(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    running = native.monitor(rootfs.shell("yes | head -c 1000000"), "stdin=0").started()
    connection = running.primary.detach()
    with open(tmp_path / "out", "wb") as out:
        code = subprocess.run(
            [native.path, "attach", str(connection)],
            pass_fds=[connection],
            stdout=out,
            env=native.env,
            timeout=60,
        ).returncode
    os.close(connection)
    assert code == 0
    assert (tmp_path / "out").stat().st_size == 1_000_000
