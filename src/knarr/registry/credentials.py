"""Credentials: user names, passwords and tokens for registries, where docker and the containers tools keep them.

Read in this order, the first that knows the registry wins:

    $REGISTRY_AUTH_FILE, or $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json
    $DOCKER_CONFIG/config.json, or ~/.docker/config.json

In each file: `credHelpers` (one program per registry), then `auths`, then `credsStore` (one program for all).
Keys may carry a path (`quay.io/team`), the longest that fits wins; docker.io is also known by its old address.
"""

from __future__ import annotations

import base64
import binascii
import os

from knarr.errors import DataError, HostError
from knarr.oci.json import dumps, loads
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_HUB_KEYS = ("docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_HUB_WRITTEN = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # docker's helpers give this user name when the secret is an identity token
_HELPER_TIMEOUT_S = 60


class Credential(Record):
    """A password, or an `identity_token` (oauth2 refresh token), or a `registry_token` (bearer, as it is)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __bool__(self) -> bool:
        return any(self)

    def __repr__(self) -> str:  # a secret must not get into a log by accident
        return f"Credential({self.username!r}, …)" if self else "Credential()"


ANONYMOUS = Credential()


class Given:
    """One credential for everything: what a login is tried with."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def find(self, name: str) -> Credential:
        return self._credential


class Credentials:
    """The credential files of one user; each is read once, when first needed."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._documents: dict[str, dict[str, Any]] = {}

    def find(self, name: str) -> Credential:
        """For a repository `host/path` (or only a host). `ANONYMOUS` when nobody knows it."""
        for path in files(self._env):
            found = self._in_file(path, name)
            if found:
                return found
        return ANONYMOUS

    def _in_file(self, path: str, name: str) -> Credential:
        document = self._read(path)
        helpers = _object(document, "credHelpers", path)
        auths = _object(document, "auths", path)
        for key in keys(name):
            program = helpers.get(key)
            if isinstance(program, str) and program:
                return ask(program, key, self._env)
            entry = auths.get(key)
            found = from_entry(entry, f"{path}: auths.{key}") if isinstance(entry, dict) else ANONYMOUS
            if found:
                return found
        store = document.get("credsStore")
        if isinstance(store, str) and store:
            for key in keys(name.partition("/")[0]):
                found = ask(store, key, self._env)
                if found:
                    return found
        return ANONYMOUS

    def _read(self, path: str) -> dict[str, Any]:
        if path not in self._documents:
            self._documents[path] = read_file(path)
        return self._documents[path]


def files(env: Mapping[str, str]) -> tuple[str, ...]:
    """The files that may hold credentials, the one that wins first."""
    home = env.get("HOME") or "/"
    if env.get("REGISTRY_AUTH_FILE"):
        found = [env["REGISTRY_AUTH_FILE"]]
    else:
        config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
        found = [f"{config}/containers/auth.json"]
        if env.get("XDG_RUNTIME_DIR"):
            found.insert(0, f"{env['XDG_RUNTIME_DIR']}/containers/auth.json")
    return (*found, docker_file(env))


def docker_file(env: Mapping[str, str]) -> str:
    """docker's own file: where `knarr login` writes."""
    return os.path.join(env.get("DOCKER_CONFIG") or (env.get("HOME") or "/") + "/.docker", "config.json")


def keys(name: str) -> tuple[str, ...]:
    """Every key under which a repository's credentials may be, the longest first."""
    host, _, path = name.partition("/")
    hosts = _HUB_KEYS if host in _HUB_KEYS else (host, f"https://{host}", f"http://{host}")
    found: list[str] = []
    while path:
        found.append(f"{host}/{path}")
        path = path.rpartition("/")[0]
    for one in hosts:
        found.append(one)
        if "://" in one and one != _HUB_WRITTEN:
            found += (f"{one}/", f"{one}/v1/", f"{one}/v2/")
    return tuple(found)


def from_entry(entry: Mapping[str, Any], where: str) -> Credential:
    """One value of `auths`: base64 of `user:password` in `auth`, or the fields spelled out."""

    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if text("auth"):
        try:
            decoded = base64.b64decode(text("auth").strip(), validate=True).decode()
        except (binascii.Error, ValueError) as e:
            raise DataError(f"{where}.auth: not base64 of user:password") from e
        username, _, password = decoded.rstrip("\0").partition(":")
    return Credential(username, password, text("identitytoken"), text("registrytoken"))


def ask(program: str, server: str, env: Mapping[str, str]) -> Credential:
    """Asks `docker-credential-PROGRAM get`; `ANONYMOUS` when it has none. Raises `HostError` when it fails."""
    status, out, err = _helper(program, "get", server, env)
    said = (out + err).strip()
    if status:
        if "credentials not found" in said.lower():
            return ANONYMOUS
        raise HostError(f"docker-credential-{program}: {said[:200] or f'exit status {status}'}")
    document = loads(out)
    username = document.get("Username", "") if isinstance(document, dict) else None
    secret = document.get("Secret", "") if isinstance(document, dict) else None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise HostError(f"docker-credential-{program}: answered something else than Username and Secret")
    if username == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret)


def _helper(program: str, verb: str, given: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    import subprocess

    if "/" in program or not program.isprintable():
        raise DataError(f"credential helper {program!r}: a plain name is expected")
    command = f"docker-credential-{program}"
    try:
        done = subprocess.run(
            [command, verb], input=given, capture_output=True, text=True, env=dict(env),
            timeout=_HELPER_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise HostError(
            f"{command}: no such program, but the credentials file names it",
            hint="install it, or remove credsStore/credHelpers from the file",
        ) from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{command}: no answer in {_HELPER_TIMEOUT_S} seconds") from None
    except OSError as e:
        raise HostError(f"{command}: {e.strerror}") from e
    return done.returncode, done.stdout, done.stderr


def read_file(path: str) -> dict[str, Any]:
    """A credentials file's document; empty when there is none. Raises `DataError`, `HostError`."""
    try:
        with open(path, "rb") as file:
            body = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as e:
        raise HostError(f"{path}: {e.strerror}") from e
    if not body.strip():
        return {}
    try:
        document = loads(body)
    except DataError as e:
        raise DataError(f"{path}: {e.message}") from e
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected an object")
    return document


def _object(document: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise DataError(f"{path}: {key}: expected an object")
    return value


def store(env: Mapping[str, str], host: str, credential: Credential) -> str:
    """Keeps a credential for `host` and says where: the configured helper, else docker's file (0600, atomically)."""
    path = docker_file(env)
    document = read_file(path)
    key = _HUB_WRITTEN if host in _HUB_KEYS else host
    helper = _object(document, "credHelpers", path).get(key) or document.get("credsStore")
    if isinstance(helper, str) and helper:
        secret = credential.identity_token or credential.password
        username = _TOKEN_USER if credential.identity_token else credential.username
        entry = dumps({"ServerURL": key, "Username": username, "Secret": secret})
        status, out, err = _helper(helper, "store", entry, env)
        if status:
            raise HostError(f"docker-credential-{helper}: {(out + err).strip()[:200]}")
        return f"docker-credential-{helper}"
    pair = f"{credential.username}:{credential.password}"
    auth = {"auth": base64.b64encode(pair.encode()).decode()}
    if credential.identity_token:
        auth["identitytoken"] = credential.identity_token
    document["auths"] = {**_object(document, "auths", path), key: auth}
    _write(path, document)
    return path


def erase(env: Mapping[str, str], host: str) -> bool:
    """Forgets `host` in docker's file and its helper; whether something was known."""
    path = docker_file(env)
    document = read_file(path)
    auths = dict(_object(document, "auths", path))
    known = set(keys(host))
    kept = {k: v for k, v in auths.items() if k not in known}
    helper = _object(document, "credHelpers", path).get(host) or document.get("credsStore")
    found = len(kept) != len(auths)
    if isinstance(helper, str) and helper:
        key = _HUB_WRITTEN if host in _HUB_KEYS else host
        found = _helper(helper, "erase", key, env)[0] == 0 or found
    if len(kept) != len(auths):
        document["auths"] = kept
        _write(path, document)
    return found


def _write(path: str, document: Mapping[str, Any]) -> None:
    """Beside, synced, renamed; never readable by others, not even for a moment."""
    import json
    import tempfile

    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        target = os.path.realpath(path)  # people keep their dot files as symbolic links
        fd, beside = tempfile.mkstemp(prefix=".config.json.", dir=os.path.dirname(target))
        try:
            with os.fdopen(fd, "w") as file:
                json.dump(document, file, indent="\t")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as e:
        raise HostError(f"{path}: {e.strerror}") from e
