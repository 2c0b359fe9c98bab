"""User-mode networking: a program beside the container carries its traffic, for a user who may not make a bridge.

slirp4netns if it is there (ready in 3 ms), else pasta (16 ms). It is started while the plan stands at `pause network`,
when the namespace exists and nothing runs in it yet, and lives as long as a descriptor that the monitor holds: when
the monitor ends, however it ends, so does the program. Inside it looks the same with both:

    10.0.2.100/24 on eth0, gateway 10.0.2.2, resolver 10.0.2.3; the host's own loopback cannot be reached

What does not work, seen with Debian 12's versions: told to keep the host's loopback closed, slirp4netns also drops the
answers to datagrams that came from there (from the host's other addresses, and other machines, they are answered).
pasta drops them too, and does not end a TCP handshake from outside before the client has spoken.
"""

from __future__ import annotations

import _socket
import os
import select

from knarr.errors import HostError, UsageError
from knarr.host.native import spawn
from knarr.network.address import mac_of
from knarr.network.attachment import HOST_ORIGIN, INTERFACE, Attachment, Names, loopback_step, named
from knarr.network.ports import PortRequest, Published, reserve, reserve_loopback6
from knarr.plan.step import Step
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts

ADDRESS, PREFIX, GATEWAY, RESOLVER = "10.0.2.100", 24, "10.0.2.2", "10.0.2.3"
_MTU = "65520"  # nothing on this link is ever fragmented, and each read of the program carries more
_READY_TIMEOUT_S = 20
_LOG_LIMIT = 1 << 16
_TUN = "/dev/net/tun"

PAUSE = "network"


class Descriptor:
    """A file descriptor that may be closed more than once: after a failed start nobody knows who came first."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


class UserNetwork(Record):
    """What `start` needs. `lifeline` is ours until then: the end of a pipe whose other end the monitor holds."""

    tool: str  # slirp4netns, pasta
    program: str
    ports: tuple[Published, ...]
    lifeline: Descriptor
    api_socket: str  # slirp4netns: where it is told of ports; "" without any
    mac: str


def prepare(
    paths: Paths,
    facts: HostFacts,
    container_id: str,
    tool: str,
    requests: Sequence[PortRequest],
    asked: Names,
    mac: str,
) -> Attachment:
    """As `attach.prepare`. Ports are checked by binding them, then left to the program, which binds them itself."""
    published, relayed = _checked_ports(requests)
    mac = mac or mac_of(ADDRESS)
    api_socket = f"{paths.run}/networks/.slirp/{container_id}" if published and tool == "slirp4netns" else ""
    exit_fd, held = os.pipe2(os.O_CLOEXEC)
    attachment = Attachment(
        tool,
        "new",
        child_steps=(loopback_step(),),
        teardown_steps=(Step("unlink", (api_socket,), HOST_ORIGIN),) if api_socket else (),
        hold_fds=(held, *relayed),
        relayed=relayed,
        relay_to="127.0.0.1",
        ip=ADDRESS,
        prefix=PREFIX,
        gateway=GATEWAY,
        mac=mac,
        published=tuple(published),
        pauses=(PAUSE,),
        user=UserNetwork(tool, facts.tools[tool], tuple(published), Descriptor(exit_fd), api_socket, mac),
    )
    try:
        return named(attachment, asked, _own_address(), RESOLVER)
    except BaseException:
        for fd in (exit_fd, held, *relayed):
            os.close(fd)
        raise


def start(user: UserNetwork, pid: int) -> int:
    """Starts the program on the network namespace of `pid`; returns when that has its network and its ports.

    The result is the process started, for a caller that lives long enough to have to wait for it. Closes the
    lifeline. Raises HostError with the program's own words.
    """
    try:
        return _start_slirp(user, pid) if user.tool == "slirp4netns" else _start_pasta(user, pid)
    finally:
        user.lifeline.close()


def missing(facts: HostFacts) -> str:
    """Why user-mode networking cannot work here, with the mend; empty if it can."""
    if "slirp4netns" not in facts.tools and "pasta" not in facts.tools:
        return "neither slirp4netns nor pasta is there (apt install slirp4netns)"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        what = "may not be opened" if os.path.exists(_TUN) else "is missing"
        return f"{_TUN} {what} (as root: modprobe tun; chmod 0666 {_TUN})"
    return ""


def choose(facts: HostFacts) -> str:
    """The program, where `missing` says nothing."""
    return next(tool for tool in ("slirp4netns", "pasta") if tool in facts.tools)


def _checked_ports(requests: Sequence[PortRequest]) -> tuple[list[Published], dict[int, int]]:
    """The clear refusal comes from here; between this and the program's own bind somebody else could be faster.

    Both programs only publish IPv4 here. Sockets of [::1] are the monitor's, who relays what comes there to 127.0.0.1:
    the second value has their descriptors and the port.
    """
    for request in requests:
        if request.protocol not in ("tcp", "udp"):
            raise UsageError(
                f"-p …:{request.container_port}/{request.protocol}: only tcp and udp without root"
            )
    published, sockets = reserve(requests, ipv6=False)
    for bound in sockets:
        bound.close()
    relayed: dict[int, int] = {}
    for port in published:
        if port.host_ip == "0.0.0.0" and port.protocol == "tcp":
            loopback = reserve_loopback6(port.host_port)
            if loopback is not None:
                relayed[loopback.detach()] = port.host_port
    return published, relayed


def _own_address() -> str:
    """The address this host goes out with, which is `host-gateway` where the gateway is not the host. Sends nothing."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    except OSError:
        return ""
    finally:
        probe.close()


# -- slirp4netns ------------------------------------------------------------------------------------------------


def _start_slirp(user: UserNetwork, pid: int) -> int:
    argv = [
        user.program,
        "--configure",
        f"--mtu={_MTU}",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--ready-fd=3",
        "--exit-fd=4",
    ]
    if _host_has_ipv6():
        argv.append("--enable-ipv6")
    argv.append(f"--macaddress={user.mac}")
    ready, told = os.pipe2(os.O_CLOEXEC)
    fds = {3: told, 4: user.lifeline.number}
    folder = -1
    try:
        if user.api_socket:
            # By descriptor: the path of a socket may have 107 bytes, and RUN may be longer.
            folder = _socket_folder(user.api_socket)
            fds[5] = folder
            argv.append(f"--api-socket=/proc/self/fd/5/{os.path.basename(user.api_socket)}")
        child = _launch(user, [*argv, str(pid), INTERFACE], fds, ready, told)
        for port in user.ports:
            _forward(folder, os.path.basename(user.api_socket), port)
        return child
    finally:
        os.close(ready)
        if folder >= 0:
            _unlink(user.api_socket)  # nobody needs it any more, and nobody else shall open ports by it
            os.close(folder)


def _launch(user: UserNetwork, argv: list[str], fds: dict[int, int], ready: int, told: int) -> int:
    """Starts it in a session of its own (the terminal's Ctrl-C is the container's) and waits for a byte on `ready`."""
    log = os.memfd_create("knarr-network", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        _limit(log)
        child = spawn(argv, {0: nothing, 1: log, 2: log, **fds}, session=True)
        os.close(told)
        if not _is_ready(ready):
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise HostError(f"network: {user.tool}: {_last_words(log)}", hint="knarr doctor")
        return child
    finally:
        os.close(log)
        os.close(nothing)


def _is_ready(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(_READY_TIMEOUT_S * 1000)) and os.read(fd, 1) != b""


def _limit(log: int) -> None:
    """What it says is kept for the message of a failed start, and must not grow as long as the container lives."""
    import fcntl

    os.ftruncate(log, _LOG_LIMIT)
    fcntl.fcntl(log, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)


def _last_words(log: int) -> str:
    text = os.pread(log, _LOG_LIMIT, 0).rstrip(b"\0").decode("utf-8", "replace").strip()
    return text.splitlines()[-1] if text else "ended without a word"


def _socket_folder(path: str) -> int:
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    _unlink(path)
    return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _forward(folder: int, name: str, port: Published) -> None:
    """One request on a connection of its own, as slirp4netns wants it; an answer without `error` is success."""
    ip = port.host_ip if port.host_ip != "::" else "0.0.0.0"
    request = (
        f'{{"execute": "add_hostfwd", "arguments": {{"proto": "{port.protocol}", "host_addr": "{ip}", '
        f'"host_port": {port.host_port}, "guest_addr": "{ADDRESS}", "guest_port": {port.container_port}}}}}'
    )
    try:
        answer = _asked(f"/proc/self/fd/{folder}/{name}", request.encode())
    except OSError as e:
        raise HostError(f"network: slirp4netns: {e.strerror}") from e
    if b'"error"' in answer:
        raise HostError(
            f"-p {port.host_port}:{port.container_port}: slirp4netns cannot publish it: {answer.decode().strip()}",
            hint=f"find who has it: ss -lntup 'sport = :{port.host_port}'",
        )


def _asked(path: str, request: bytes) -> bytes:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_READY_TIMEOUT_S)
        connection.connect(path)
        connection.sendall(request)
        connection.shutdown(_socket.SHUT_WR)
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer
    finally:
        connection.close()


# -- pasta ------------------------------------------------------------------------------------------------------

# pasta has no descriptor that ends it, and outlives the namespace it is for: a shell ends it. It is the shell's
# child, not yet waited for, so its number cannot be another's.
_KEEPER = '"$@" & program=$!; exec 3>&-; read -r _ <&4; kill "$program"; wait'


def _start_pasta(user: UserNetwork, pid: int) -> int:
    argv = [user.program, "--foreground", "--quiet", "--config-net", "--ns-ifname", INTERFACE]
    argv += ["--address", ADDRESS, "--netmask", str(PREFIX), "--gateway", GATEWAY, "--mtu", _MTU]
    argv += ["--no-map-gw", "--dns-forward", RESOLVER, "--tcp-ns", "none", "--udp-ns", "none"]
    if os.geteuid() == 0:
        argv += ["--runas", "0"]  # else it becomes nobody, who may not enter the container's namespaces
    # Not knowing it, pasta would broadcast the first packets, which no TCP answers.
    argv += ["--ns-mac-addr", user.mac]
    for flag, protocol in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        forms = [_pasta_form(port) for port in user.ports if port.protocol == protocol]
        for form in forms or ["none"]:
            argv += [flag, form]
    # The pid file is written when all is set up: into the pipe that `_launch` listens to.
    argv += ["--pid", "/proc/self/fd/3", str(pid)]
    ready, told = os.pipe2(os.O_CLOEXEC)
    try:
        keeper = ["/bin/sh", "-c", _KEEPER, "knarr-network", *argv]
        return _launch(user, keeper, {3: told, 4: user.lifeline.number}, ready, told)
    finally:
        os.close(ready)


def _pasta_form(port: Published) -> str:
    return f"{port.host_ip}/{port.host_port}:{port.container_port}"


def _host_has_ipv6() -> bool:
    try:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6") as file:
            return file.read(1) == "0"
    except OSError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
