"""Hooks (config.md, POSIX-platform Hooks): what is checked of all six kinds, and the steps of the two kinds that are
executed in the container's namespaces. The other four run beside the runtime, which calls them itself."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.state import CREATED, state_parts
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.oci.spec import Hook, Hooks, Spec

KINDS = {
    "prestart": "prestart", "create_runtime": "createRuntime", "create_container": "createContainer",
    "start_container": "startContainer", "poststart": "poststart", "poststop": "poststop",
}  # fmt: skip


def check_hooks(hooks: Hooks) -> None:
    """Raises `UsageError` for the first that cannot be executed, so that nothing has begun by then."""
    for field, name in KINDS.items():
        for i, hook in enumerate(getattr(hooks, field)):
            _check(hook, f"hooks.{name}[{i}]")


def _check(hook: Hook, origin: str) -> None:
    if not hook.path.startswith("/"):
        raise UsageError(f"{origin}.path: {quoted(hook.path)} is not absolute")
    if hook.timeout is not None and not 0 < hook.timeout < 1 << 40:
        raise UsageError(f"{origin}.timeout: {hook.timeout} is not a number of seconds above zero")
    for words in ((hook.path,), hook.args, hook.env or ()):
        if any("\0" in word for word in words):
            raise UsageError(f"{origin}: contains a NUL byte")


def create_container_steps(spec: Spec, container_id: str, bundle: str) -> Iterator[Step]:
    """Paths are the host's, whose files C still sees, and so is the working directory: the bundle."""
    if spec.hooks and spec.hooks.create_container:
        parts = state_parts(spec, container_id, bundle, CREATED)
        yield from _steps(spec.hooks.create_container, "createContainer", parts, bundle)


def start_container_steps(spec: Spec, container_id: str, bundle: str) -> Iterator[Step]:
    """Paths are the container's; the working directory and, where a hook names none, the environment the process's."""
    if spec.hooks and spec.hooks.start_container:
        if spec.linux.seccomp:
            yield Step("seccomp-now", (), "hooks.startContainer")  # they are no freer than the process
        parts = state_parts(spec, container_id, bundle, CREATED)
        yield from _steps(spec.hooks.start_container, "startContainer", parts, "")


def _steps(hooks: Sequence[Hook], name: str, parts: tuple[str, str], directory: str) -> Iterator[Step]:
    for i, hook in enumerate(hooks):
        variables = ("-",) if hook.env is None else (str(len(hook.env)), *hook.env)
        args = (hook.path, str(hook.timeout or 0), directory, *parts, *variables, *hook.args)
        yield Step("hook", args, f"hooks.{name}[{i}]")
