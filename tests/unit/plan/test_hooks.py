"""Hooks and the documents that are handed to those who act while a container is made."""

from __future__ import annotations

import json

import pytest

from knarr.errors import StepFailed, UsageError
from knarr.host.native import failure
from knarr.oci.document import decode
from knarr.oci.spec import Hook, Hooks, Linux, Namespace, Process, Root, Seccomp, Spec, SyscallRule
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import HostFacts
from knarr.plan.hooks import KINDS
from knarr.plan.setup import Setting, container_plan
from knarr.plan.state import process_state_parts, state_parts
from knarr.plan.step import Step

FACTS = HostFacts((6, 12), "x86_64", 0, 0, "root", (1 << 41) - 1)
NOTIFY = Seccomp(
    "SCMP_ACT_ALLOW", listener_path="/run/agent", syscalls=(SyscallRule(("mkdir",), "SCMP_ACT_NOTIFY"),)
)


def spec(hooks: Hooks | None = None, seccomp: Seccomp | None = None) -> Spec:
    linux = Linux(namespaces=(Namespace("mount"),), seccomp=seccomp)
    annotations = {"a{pid}": 'b"c'}
    return Spec("1.3.0", Root("rootfs"), (), Process("/w", ("sh",), env=("A=b",)), hooks=hooks, linux=linux,
                annotations=annotations)  # fmt: skip


def steps(given: Spec, **setting: object) -> list[Step]:
    where = Setting(bundle="/b", container_id="c1")._replace(**setting)
    return list(container_plan(given, FACTS, where).steps)


def test_the_two_kinds_of_the_container_stand_before_the_pivot_and_before_the_program() -> None:
    hooks = Hooks(
        create_container=(Hook("/host", ("host", "-x"), ("P=q",), 7), Hook("/second", env=())),
        start_container=(Hook("/inside"),),
        prestart=(Hook("/p"),), create_runtime=(Hook("/r"),), poststart=(Hook("/s"),), poststop=(Hook("/t"),),
    )  # fmt: skip
    found = steps(spec(hooks), fifo_fd=5, mounted_pauses=("createRuntime",))
    before, after = state_parts(spec(), "c1", "/b", "created")
    assert [s for s in found if s.op == "hook"] == [
        Step(
            "hook",
            ("/host", "7", "/b", before, after, "1", "P=q", "host", "-x"),
            "hooks.createContainer[0]",
        ),
        Step("hook", ("/second", "0", "/b", before, after, "0"), "hooks.createContainer[1]"),
        Step(
            "hook",
            ("/inside", "0", "", *state_parts(spec(), "c1", "/b", "created"), "-"),
            "hooks.startContainer[0]",
        ),
    ]
    order = [s.op for s in found]
    assert order.index("make-link") < order.index("pause") < order.index("hook") < order.index("pivot")
    assert order[-4:] == ["find-command", "wait-fifo", "hook", "exec"]
    assert "env" in order[order.index("pivot") : -4]


def test_a_state_is_json_around_a_pid() -> None:
    before, after = state_parts(spec(), "c1", "/b", "created")
    assert json.loads(f"{before}42{after}") == {
        "ociVersion": "1.3.0", "id": "c1", "status": "created", "pid": 42, "bundle": "/b",
        "annotations": {"a{pid}": 'b"c'},
    }  # fmt: skip


@pytest.mark.parametrize("metadata", ["", 'opaque "x"'])
@pytest.mark.parametrize("container", [0, 7])
def test_the_state_for_an_agent(metadata: str, container: int) -> None:
    given = spec(seccomp=NOTIFY._replace(listener_metadata=metadata))
    parts = process_state_parts(given, "c1", "/b", "running", pid=container)
    document = json.loads("42".join(parts))
    assert document.pop("state") == json.loads(
        str(container or 42).join(state_parts(given, "c1", "/b", "running"))
    )
    assert document == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 42} | (
        {"metadata": metadata} if metadata else {}
    )


def test_an_agent_is_connected_to_from_the_host() -> None:
    found = steps(spec(seccomp=NOTIFY))
    ops = [s.op for s in found]
    assert ops.index("seccomp-listener") < ops.index("clone")
    assert found[ops.index("seccomp-listener")].args == ("/run/agent",)
    assert found[ops.index("seccomp")].args[2:] == process_state_parts(
        spec(seccomp=NOTIFY), "c1", "/b", "creating"
    )
    # In one that runs: before the container's files are entered.
    plan = exec_plan(
        spec(seccomp=NOTIFY), Process("/", ("sh",)), ExecTarget(7, 8, ("mnt",)), FACTS, ExecSetting(container_id="c1")
    )  # fmt: skip
    ops = [s.op for s in plan.steps]
    assert ops.index("seccomp-listener") < ops.index("join-pid")
    assert len(plan.steps[ops.index("seccomp")].args) == 4


def test_an_agent_that_is_never_asked_is_not_told() -> None:
    quiet = Seccomp("SCMP_ACT_ALLOW", listener_path="/run/agent", listener_metadata="m")
    assert "seccomp-listener" not in [s.op for s in steps(spec(seccomp=quiet))]
    with pytest.raises(UsageError, match="listenerMetadata: means nothing without listenerPath"):
        steps(spec(seccomp=quiet._replace(listener_path="")))
    with pytest.raises(UsageError, match="listenerPath: is required"):
        steps(spec(seccomp=NOTIFY._replace(listener_path="")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("hook", "complaint"),
    [
        (Hook("bin/x"), ".path: 'bin/x' is not absolute"),
        (Hook(""), ".path: '' is not absolute"),
        (Hook("/x", timeout=0), ".timeout: 0 is not a number of seconds above zero"),
        (Hook("/x", timeout=-5), ".timeout: -5 is not"),
        (Hook("/x", ("a\0",)), ": contains a NUL byte"),
        (Hook("/x", env=("a\0",)), ": contains a NUL byte"),
    ],
)
def test_a_bad_hook_of_any_kind_is_refused_before_anything_begins(
    kind: str, hook: Hook, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        steps(spec(Hooks(**{kind: (Hook("/good"), hook)})))
    assert f"hooks.{KINDS[kind]}[1]{complaint}" in refused.value.message


def test_absent_and_empty_environments_differ() -> None:
    hooks = decode(Hooks, {name: [{"path": "/x"}, {"path": "/x", "env": []}] for name in KINDS.values()})
    assert all([h.env for h in kind] == [None, ()] for kind in hooks)  # type: ignore[attr-defined]


def test_a_failure_names_the_hook() -> None:
    step = Step("hook", ("/bin/x", "0", "", "", "", "-"), "hooks.createContainer[1]")
    error = failure([step], b"fail 0 0 exit status 3: no\nluck\n")
    assert isinstance(error, StepFailed)
    named = "hooks.createContainer[1]: error running createContainer hook #1: /bin/x"
    assert error.message == f"{named}: exit status 3: no luck"
    assert failure([step], b"fail 0 2 ").message == f"{named}: no such file or directory"
    late = failure([step], b"fail 0 110 timed out after 1 s")
    assert late.message == f"{named}: timed out after 1 s"
