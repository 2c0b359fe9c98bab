"""Where knarr keeps things. Root and users have the same tree under different roots.

    ROOT  /var/lib/knarr, or $XDG_DATA_HOME/knarr          survives a reboot
      blobs/sha256/HEX                                     every document and compressed layer, by digest
      layers/HEX/diff/                                     a layer unpacked, by the hex of its diff id
      images/HEX/image.json                                an image, by the hex of its config's digest
      refs/NAME                                            symbolic link to ../images/HEX; NAME is the encoded reference
      store.db                                             SQLite: which blobs, layers, pulls there are, for collecting
      containers/ID/                                       one container: see knarr.engine.container_dir
      volumes/NAME/_data/                                  a volume: see knarr.engine.volumes
      names/NAME                                           symbolic link to ../containers/ID: taking it takes the name
      tmp/                                                 what is being made; swept when its maker is gone
    RUN   /run/knarr, or $XDG_RUNTIME_DIR/knarr            gone with a reboot
      containers/ID/                                       one running container: pid, attach socket, tear-down plan
      networks/NAME/ADDRESS                                symbolic link, text ID: taking it is leasing the address

Overrides: `--root`, `--run-root`, `KNARR_ROOT`, `KNARR_RUN`.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from knarr.errors import HostError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_A_HIERARCHY = 0x80086601, 0x40086602, 0x00020000


class Paths(Record):
    root: str
    run: str
    config: tuple[str, ...]  # directories, the one that wins first


def default_paths(euid: int, env: Mapping[str, str]) -> Paths:
    """Absolute paths; nothing is created."""
    config: tuple[str, ...]
    if euid == 0 and "KNARR_USERNS" not in env:
        root, run, config = "/var/lib/knarr", "/run/knarr", ("/etc/knarr",)
    else:
        # Inside the user namespace of `knarr.host.userns` one is root, and still the same user: same directories.
        outer = env.get("KNARR_USERNS", "")
        uid = int(outer) if outer.isdecimal() else euid
        home = env.get("HOME") or _home(uid)
        root = (env.get("XDG_DATA_HOME") or f"{home}/.local/share") + "/knarr"
        run = (env.get("XDG_RUNTIME_DIR") or _private_run(uid)) + "/knarr"
        config = ((env.get("XDG_CONFIG_HOME") or f"{home}/.config") + "/knarr", "/etc/knarr")
    return Paths(
        os.path.abspath(env.get("KNARR_ROOT") or root),
        os.path.abspath(env.get("KNARR_RUN") or run),
        config,
    )


def make_directories(paths: Paths) -> None:
    """Make what is missing of both trees, closed to other users. Raises `HostError`.

    What containers and volumes hold is below 0700: a setuid program that a container wrote would be one on the host
    too, for any local user who can reach it (CVE-2021-41091). A container needs no way in: who mounts its layers is
    root, or has rights over the files of the user whose directory it is, in every id map we make.
    """
    if paths.run.startswith("/tmp/knarr-run-"):
        _make_private(os.path.dirname(paths.run))
    for directory, mode in (
        (paths.root, 0o711),
        (f"{paths.root}/containers", 0o700),
        (f"{paths.root}/volumes", 0o700),
        (f"{paths.root}/names", 0o700),
        (f"{paths.root}/tmp", 0o700),
        (paths.run, 0o711),
        (f"{paths.run}/containers", 0o711),
        (f"{paths.run}/networks", 0o711),
    ):
        try:
            os.mkdir(directory, mode)
            if directory.endswith("/containers"):
                _spread(directory)
        except FileExistsError:
            if mode != 0o700:
                continue
            # Made by an older knarr, or opened by hand.
        except FileNotFoundError:
            _make_with_parents(directory, mode)
        except OSError as e:
            raise _unusable(directory, e) from e
        _set_mode(directory, mode)


def _make_with_parents(directory: str, mode: int) -> None:
    try:
        os.makedirs(os.path.dirname(directory), 0o755, exist_ok=True)
        os.mkdir(directory, mode)
    except FileExistsError:
        pass  # another command was quicker
    except OSError as e:
        raise _unusable(directory, e) from e


def _spread(directory: str) -> None:
    """Tell the file system that directories in this one are not related (chattr(1), T).

    ext4 makes a directory near its parent's and skips, inode by inode, what was removed there in the last seconds.
    Where containers come and go quickly that is a tenth of what a start takes. Other file systems refuse or ignore it.
    """
    import fcntl

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)  # an int, though the request's number says long
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        number = int.from_bytes(flags[:4], sys.byteorder) | _TOP_OF_A_HIERARCHY
        fcntl.ioctl(fd, _SET_FLAGS, number.to_bytes(4, sys.byteorder) + bytes(4))
    except OSError:
        pass
    finally:
        os.close(fd)


def _set_mode(directory: str, mode: int) -> None:
    """What the umask took away, or what was open. Only on directories that are knarr's alone: ROOT and RUN may be
    some that the user has chosen."""
    try:
        if stat.S_IMODE(os.lstat(directory).st_mode) != mode:
            os.chmod(directory, mode)
    except FileNotFoundError:
        pass  # another command is sweeping


def _make_private(directory: str) -> None:
    """A directory in a place where everybody may make things: ours, closed to others, or refused."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as e:
        raise _unusable(directory, e) from e
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise HostError(
            f"{directory}: belongs to somebody else or is open to others",
            hint="set XDG_RUNTIME_DIR to a directory of your own",
        )


def _unusable(directory: str, e: OSError) -> HostError:
    hint = "choose another place with --root and --run-root, or KNARR_ROOT and KNARR_RUN"
    if e.errno == errno.ENOSPC:
        hint = "free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`"
    return HostError(f"cannot make {directory}: {os.strerror(e.errno or 0).lower()}", hint=hint)


def _home(uid: int) -> str:
    """The home directory of a user whose environment does not say (a service, cron)."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def _private_run(uid: int) -> str:
    """A user without XDG_RUNTIME_DIR: /run/user/UID when it is there, else a directory of their own in /tmp."""
    return f"/run/user/{uid}" if os.access(f"/run/user/{uid}", os.W_OK) else f"/tmp/knarr-run-{uid}"
