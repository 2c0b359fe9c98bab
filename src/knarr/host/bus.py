"""A connection to systemd's manager over D-Bus, and the few things asked of it. Imported only where systemd runs.

Messages are jeepney's; the loop that reads them is ours, because systemd's own socket (`private`, which is there
without a D-Bus daemon) is no bus: nobody answers a `Hello` on it.
"""

from __future__ import annotations

import os
import time

from knarr.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MANAGER = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
_BUS = "org.freedesktop.DBus"


class BusError(Exception):
    """An error reply. `name` is D-Bus's: `org.freedesktop.systemd1.UnitExists`."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


def sockets(*, user: bool, env: Mapping[str, str], uid: int) -> list[tuple[str, bool]]:
    """Where a manager may be reached, best first: (path, is it a bus). Pure."""
    if not user:
        return [("/run/dbus/system_bus_socket", True), ("/run/systemd/private", False)]
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    found = [
        (address.removeprefix("unix:path=").partition(",")[0], True)
        for address in env.get("DBUS_SESSION_BUS_ADDRESS", "").split(";")
        if address.startswith("unix:path=")
    ]
    return list(dict.fromkeys([*found, (f"{runtime}/bus", True), (f"{runtime}/systemd/private", False)]))


def connect(*, user: bool) -> Bus:
    """The manager of the system, or of this user. Raises `HostError` when there is none."""
    reasons = []
    for path, is_bus in sockets(user=user, env=os.environ, uid=os.getuid()):
        try:
            return Bus(path, is_bus=is_bus)
        except (OSError, BusError, ValueError) as e:
            reasons.append(f"{path}: {str(e).lower()}")
    who = "user's " if user else ""
    hint = "log in through pam_systemd, or `sudo loginctl enable-linger $USER`" if user else ""
    raise HostError(f"cannot reach the {who}systemd: {'; '.join(reasons)}", hint=hint)


class Bus:
    """One connection; a context manager."""

    def __init__(self, path: str, *, is_bus: bool, timeout_s: float = 25.0) -> None:
        from jeepney import Parser
        from jeepney.io.blocking import prep_socket

        self._socket = prep_socket(path, timeout=2.0)
        self._socket.settimeout(timeout_s)
        self._parser = Parser()
        self._serial = 0
        self._jobs: dict[str, str] = {}  # job → result, as they ended
        try:
            if is_bus:
                self.call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")
                rule = (
                    f"type='signal',interface='{MANAGER}.Manager',member='JobRemoved',path='{MANAGER_PATH}'"
                )
                self.call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", (rule,))
                self.manager("Subscribe")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def manager(self, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Calls a method of org.freedesktop.systemd1.Manager. Raises `BusError`."""
        return self.call(MANAGER, MANAGER_PATH, f"{MANAGER}.Manager", member, signature, body)

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        """The body of the reply. Raises `BusError`, and `OSError` for a connection that broke or fell silent."""
        from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call

        address = DBusAddress(path, bus_name=name, interface=interface)
        message = new_method_call(address, member, signature or None, body)
        self._serial += 1
        self._socket.sendall(message.serialise(serial=self._serial))
        while True:
            reply = self._receive()
            if reply.header.fields.get(HeaderFields.reply_serial) != self._serial:
                continue
            if reply.header.message_type is MessageType.error:
                text = str(reply.body[0]) if reply.body else ""
                raise BusError(reply.header.fields.get(HeaderFields.error_name, ""), text)
            return tuple(reply.body)

    def job_result(self, job: str, timeout_s: float) -> str:
        """How a job ended: `done`, `failed`, `timeout`, …; "" when it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while job not in self._jobs:
            left = deadline - time.monotonic()
            if left <= 0:
                return ""
            self._socket.settimeout(left)
            try:
                self._receive()
            except TimeoutError:
                return ""
        return self._jobs.pop(job)

    def _receive(self) -> Any:
        """The next message. A job's end is noted: it may come before the reply that names the job."""
        from jeepney import HeaderFields, MessageType

        while (message := self._parser.get_next_message()) is None:
            data = self._socket.recv(16384)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self._parser.add_data(data)
        if message.header.message_type is MessageType.signal:
            if message.header.fields.get(HeaderFields.member) == "JobRemoved" and len(message.body) == 4:
                _, job, _, result = message.body
                self._jobs[job] = result
        return message
