"""The process of a container or of an `exec`, completed by what every runtime adds to it."""

from __future__ import annotations

from knarr.errors import DataError, UsageError
from knarr.oci.spec import Capabilities, Process, User
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def completed(process: Process, root: str, listen_fds: int = 0) -> Process:
    """With $HOME as its root filesystem's /etc/passwd has it, and the service manager's sockets (sd_listen_fds(3))."""
    extra = [f"LISTEN_FDS={listen_fds}", "LISTEN_PID=1"] if listen_fds else []
    env = merged(process.env, extra)
    if not any(word.startswith("HOME=") and word != "HOME=" for word in env):
        env = merged(env, (f"HOME={_home(process, root)}",))
    return process._replace(env=env)


def keeps_groups(annotations: Mapping[str, str]) -> bool:
    """As crun has it, for podman's `--group-add keep-groups`: files that only a group of the caller's may read."""
    return annotations.get("run.oci.keep_original_groups") == "1"


def _home(process: Process, root: str) -> str:
    from knarr.host.users import identity_in  # most specifications bring the variable

    try:
        return identity_in((root,), f"{process.user.uid}:{process.user.gid}").home or "/"
    except (DataError, UsageError, OSError):
        return "/"


class Changes(Record):
    """What `exec` takes from its command line instead of from the container's own process."""

    args: tuple[str, ...]
    tty: bool = False
    cwd: str = ""
    env: tuple[str, ...] = ()
    user: str = ""  # UID[:GID]
    additional_gids: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()
    apparmor: str = ""
    label: str = ""
    no_new_privs: bool | None = None


def changed(process: Process, changes: Changes) -> Process:
    """Raises `UsageError` for ids that are none."""
    return process._replace(
        args=changes.args,
        terminal=changes.tty,
        console_size=None,
        cwd=changes.cwd or process.cwd,
        env=merged(process.env, changes.env),
        user=_user(process.user, changes),
        capabilities=_with_caps(process.capabilities, changes.caps),
        apparmor_profile=changes.apparmor or process.apparmor_profile,
        selinux_label=changes.label or process.selinux_label,
        no_new_privileges=process.no_new_privileges if changes.no_new_privs is None else changes.no_new_privs,
    )


def merged(env: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """A later value takes an earlier one's place: of two, getenv(3) would find the first."""
    found = {word.partition("=")[0]: word for word in (*env, *more)}
    return tuple(found.values())


def _user(user: User, changes: Changes) -> User:
    if changes.user:
        uid, colon, gid = changes.user.partition(":")
        user = user._replace(uid=_number(uid, "--user"))
        if colon:
            user = user._replace(gid=_number(gid, "--user"))
    if changes.additional_gids:
        gids = tuple(
            _number(g, "--additional-gids") for text in changes.additional_gids for g in text.split(",")
        )
        user = user._replace(additional_gids=gids)
    return user


def _number(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        raise UsageError(f"invalid argument {text!r} for {flag}: not an id")
    return int(text)


def _with_caps(sets: Capabilities | None, names: Sequence[str]) -> Capabilities | None:
    """More capabilities for the process; its programs get those that it may hand on, and no other becomes such a one
    (CVE-2022-29162)."""
    if not names:
        return sets
    more = tuple(n if n.upper().startswith("CAP_") else f"CAP_{n}" for n in names)
    more = tuple(n.upper() for n in more)
    sets = sets or Capabilities()
    return sets._replace(
        bounding=(*sets.bounding, *more),
        effective=(*sets.effective, *more),
        permitted=(*sets.permitted, *more),
        ambient=(*sets.ambient, *(name for name in more if name in sets.inheritable)),
    )
