"""A scope's life against a manager that answers as systemd does."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import HostError
from knarr.host.bus import MANAGER, BusError, sockets
from knarr.host.systemd import (
    Scope,
    properties,
    set_limits,
    start_scope,
    stop_scope,
)

SCOPE = Scope("knarr-1.scope", (42,), slice="machine.slice")


class FakeManager:
    """Units by name; a script of what goes wrong."""

    def __init__(self, *, units: tuple[str, ...] = (), result: str = "done", refuse: str = "") -> None:
        self.units = set(units)
        self.result = result
        self.refuse = refuse
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def manager(self, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        self.calls.append((member, body))
        name = body[0]
        if self.refuse:
            raise BusError(self.refuse, "refused")
        if member == "StartTransientUnit":
            if name in self.units:
                raise BusError(f"{MANAGER}.UnitExists", f"Unit {name} already exists.")
            self.units.add(name)
            return ("/job/1",)
        if name not in self.units:
            raise BusError(f"{MANAGER}.NoSuchUnit", f"Unit {name} not loaded.")
        if member == "StopUnit":
            self.units.discard(name)
            return ("/job/2",)
        return ("/unit/x",) if member == "GetUnit" else ()

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        assert (path, member, body) == ("/unit/x", "Get", (f"{MANAGER}.Scope", "ControlGroup"))
        return (("s", "/machine.slice/knarr-1.scope"),)

    def job_result(self, job: str, timeout_s: float) -> str:
        return self.result


def test_start() -> None:
    bus = FakeManager()
    assert start_scope(bus, SCOPE) == "/machine.slice/knarr-1.scope"
    member, (name, mode, given, auxiliary) = bus.calls[0]
    assert (member, name, mode, auxiliary) == ("StartTransientUnit", "knarr-1.scope", "fail", [])
    assert dict(given)["PIDs"] == ("au", [42])
    assert dict(given)["Delegate"] == ("b", True)
    assert dict(given)["Slice"] == ("s", "machine.slice")


def test_a_leftover_of_that_name_is_cleared_away() -> None:
    bus = FakeManager(units=("knarr-1.scope",))
    assert start_scope(bus, SCOPE).endswith("/knarr-1.scope")
    assert [m for m, _ in bus.calls] == [
        "StartTransientUnit", "StopUnit", "ResetFailedUnit", "StartTransientUnit", "GetUnit",
    ]  # fmt: skip


@pytest.mark.parametrize(("result", "said"), [("failed", "failed"), ("", "no answer")])
def test_a_job_that_fails(result: str, said: str) -> None:
    with pytest.raises(HostError, match=rf"systemd did not start knarr-1\.scope: {said}"):
        start_scope(FakeManager(result=result), SCOPE)


def test_refused() -> None:
    bus = FakeManager(refuse="org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
    with pytest.raises(HostError, match=r"cannot start knarr-1\.scope: refused") as caught:
        start_scope(bus, SCOPE)
    assert "systemctl --user" in caught.value.hint
    with pytest.raises(HostError, match=r"cannot change knarr-1\.scope"):
        set_limits(bus, "knarr-1.scope", (("TasksMax", ("t", 7)),))


def test_stop_is_content_with_nothing() -> None:
    stop_scope(FakeManager(), "knarr-1.scope")
    with pytest.raises(BusError):
        stop_scope(FakeManager(refuse="org.freedesktop.DBus.Error.AccessDenied"), "knarr-1.scope")


def test_no_slice_is_systemds_default() -> None:
    assert "Slice" not in dict(properties(SCOPE._replace(slice="")))


def test_a_foreign_unit_of_that_name_is_let_be() -> None:
    bus = FakeManager(units=("knarr-1.scope",))
    with pytest.raises(HostError, match="already exists"):
        start_scope(bus, SCOPE._replace(ours=False))
    assert "StopUnit" not in [m for m, _ in bus.calls]


class OldManager(FakeManager):
    """Knows no `AllowedCPUs`."""

    def manager(self, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        if member in ("StartTransientUnit", "SetUnitProperties") and "AllowedCPUs" in dict(body[2]):
            raise BusError("x.PropertyReadOnly", "Cannot set property AllowedCPUs, or unknown property.")
        return super().manager(member, signature, body)


def test_limits_that_an_old_systemd_does_not_know() -> None:
    bus = OldManager()
    limits = (("TasksMax", ("t", 7)), ("AllowedCPUs", ("ay", b"\1")))
    start_scope(bus, SCOPE._replace(limits=limits))
    assert dict(bus.calls[0][1][2])["TasksMax"] == ("t", 7)
    set_limits(bus, SCOPE.name, limits)
    assert bus.calls[-1] == ("SetUnitProperties", (SCOPE.name, True, [("TasksMax", ("t", 7))]))


def test_other_properties_win() -> None:
    given = dict(
        properties(SCOPE._replace(others=(("CollectMode", ("s", "inactive")),), stop_timeout_s=None))
    )
    assert given["CollectMode"] == ("s", "inactive") and "TimeoutStopUSec" not in given


def test_sockets() -> None:
    assert sockets(user=False, env={}, uid=0)[0] == ("/run/dbus/system_bus_socket", True)
    env = {"DBUS_SESSION_BUS_ADDRESS": "tcp:host=x;unix:path=/b,guid=1", "XDG_RUNTIME_DIR": "/r"}
    assert sockets(user=True, env=env, uid=5) == [
        ("/b", True),
        ("/r/bus", True),
        ("/r/systemd/private", False),
    ]
    assert sockets(user=True, env={}, uid=5)[0] == ("/run/user/5/bus", True)
