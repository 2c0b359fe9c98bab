"""What `start` and `delete` will have to do, written down by `create`, so that they need no interpreter to do it.

The launcher (native/launcher/ahead.c) reads the file `ahead` in a container's directory. It says what is left to do
only where that is plain: opening the FIFO, removing empty cgroups and the directory. Everything else is ours, and so is
whatever turns out otherwise: the launcher then leaves it to us from the beginning.

    knarr-runtime 1
    pid PID START
    start                 there is a process, and no poststart hook
    delete                nothing else was made, and there is no poststop hook
    rmdir PATH
"""

from __future__ import annotations

from knarr.plan.cgroup import teardown_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Spec
    from knarr.runtime.state_dir import Container

NAME = "ahead"
SAID = "said"  # what the launcher read from the FIFO before it left `start` to us
_HEAD = "knarr-runtime 1"


def written_ahead(container: Container, spec: Spec) -> str:
    """The file's text."""
    hooks = spec.hooks
    lines = [_HEAD, f"pid {container.pid} {container.pid_start}"]
    if spec.process is not None and not (hooks and hooks.poststart):
        lines.append("start")
    if not (hooks and hooks.poststop):
        lines += _deleting(container)
    return "".join(f"{line}\n" for line in lines)


def _deleting(container: Container) -> list[str]:
    """A cgroup that is not empty cannot be removed: killing what is in it (`cgroup-kill`) is then ours."""
    steps = list(teardown_steps(container.place))
    plain = all(step.op in ("cgroup-kill", "rmdir") for step in steps)
    paths = [step.args[0] for step in steps if step.op == "rmdir"]
    if not plain or any("\n" in path for path in paths):
        return []
    if container.place.scope or container.host_mount or container.rdt_group:
        return []
    return ["delete", *(f"rmdir {path}" for path in paths)]
