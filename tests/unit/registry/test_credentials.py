"""Credentials: whose word counts, what a helper is asked, and how a login is kept."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import DataError, HostError
from knarr.registry.credentials import (
    ANONYMOUS,
    Credential,
    Credentials,
    docker_file,
    erase,
    files,
    from_entry,
    keys,
    store,
)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    return tmp_path


def write(home: Path, document: Any, name: str = ".docker/config.json") -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def find(home: Path, name: str, **env: str) -> Credential:
    return Credentials({"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **env}).find(name)


def helper(home: Path, name: str, script: str) -> None:
    """A docker-credential program; `$1` is the verb, standard input the server."""
    path = home / "bin" / f"docker-credential-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(0o755)


def test_nobody_knows(home: Path) -> None:
    assert find(home, "quay.io/a") == ANONYMOUS
    assert not find(home, "quay.io/a")


def test_dockers_file(home: Path) -> None:
    write(home, {"auths": {"quay.io": auth("me", "a:b"), "https://index.docker.io/v1/": auth("hub", "x")}})
    assert find(home, "quay.io/a/b") == Credential("me", "a:b")
    assert find(home, "docker.io/library/busybox") == Credential("hub", "x")
    assert find(home, "registry-1.docker.io/a") == Credential("hub", "x")
    assert find(home, "quay.io.evil/a") == ANONYMOUS


def test_the_longest_key_counts(home: Path) -> None:
    write(home, {"auths": {"q.io": auth("all", ""), "q.io/a": auth("a", ""), "q.io/a/b": auth("ab", "")}})
    names = ("q.io/x", "q.io/a", "q.io/a/c", "q.io/a/b", "q.io/a/bc", "q.io/a/b/c")
    assert [find(home, n).username for n in names] == ["all", "a", "a", "ab", "a", "ab"]


@pytest.mark.parametrize(
    "key", ["q.io", "https://q.io", "http://q.io", "https://q.io/", "https://q.io/v2/", "https://q.io/v1/"]
)
def test_keys_as_urls(home: Path, key: str) -> None:
    write(home, {"auths": {key: auth("me", "x")}})
    assert find(home, "q.io/a").username == "me"


def test_which_files_in_which_order(home: Path) -> None:
    write(home, {"auths": {"q.io": auth("docker", "")}})
    write(home, {"auths": {"q.io": auth("config", "")}}, ".config/containers/auth.json")
    assert find(home, "q.io/a").username == "config"
    write(home, {"auths": {"q.io": auth("run", "")}}, "run/containers/auth.json")
    assert find(home, "q.io/a", XDG_RUNTIME_DIR=f"{home}/run").username == "run"
    write(home, {"auths": {"q.io": auth("named", "")}}, "elsewhere.json")
    named = {"REGISTRY_AUTH_FILE": f"{home}/elsewhere.json", "XDG_RUNTIME_DIR": f"{home}/run"}
    assert find(home, "q.io/a", **named).username == "named"
    write(home, {"auths": {"r.io": auth("other", "")}}, "other/config.json")
    assert find(home, "r.io/a", DOCKER_CONFIG=f"{home}/other").username == "other"
    assert files({"HOME": "/h"}) == ("/h/.config/containers/auth.json", "/h/.docker/config.json")


def test_entries() -> None:
    assert from_entry({"username": "a", "password": "b"}, "f") == Credential("a", "b")
    assert from_entry({"identitytoken": "t"}, "f") == Credential(identity_token="t")
    assert from_entry({"registrytoken": "t"}, "f") == Credential(registry_token="t")
    assert from_entry({"auth": "", "username": 7}, "f") == ANONYMOUS
    with pytest.raises(DataError, match="f.auth: not base64"):
        from_entry({"auth": "%%%"}, "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"), ("[]", "expected an object"), ('{"auths": []}', ""), ('{"auths": [1]}', "auths: expected"),
        ('{"credHelpers": "x"}', "credHelpers"),
    ],
)  # fmt: skip
def test_files_that_make_no_sense(home: Path, text: str, message: str) -> None:
    (home / ".docker/config.json").write_text(text)
    if not message:
        assert find(home, "q.io/a") == ANONYMOUS
        return
    with pytest.raises(DataError, match=r"config.json: .*" + message):
        find(home, "q.io/a")


def test_an_empty_file_is_no_file(home: Path) -> None:
    (home / ".docker/config.json").write_text("\n")
    assert find(home, "q.io/a") == ANONYMOUS


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credential("me", "secret", "secret", "secret"))


# ---- helpers


def test_a_helper_per_registry(home: Path) -> None:
    helper(home, "one", 'test "$server" = q.io && echo \'{"Username":"me","Secret":"s","ServerURL":"q.io"}\'')
    write(home, {"credHelpers": {"q.io": "one"}, "auths": {"q.io": auth("file", "")}})
    assert find(home, "q.io/a") == Credential("me", "s")


def test_a_store_for_all(home: Path) -> None:
    helper(
        home, "all",
        'case "$server" in https://index.docker.io/v1/) echo \'{"Username":"<token>","Secret":"t"}\';;'
        " *) echo credentials not found in native keychain; exit 1;; esac",
    )  # fmt: skip
    write(
        home, {"credsStore": "all", "auths": {"https://index.docker.io/v1/": {}, "q.io": auth("file", "x")}}
    )
    assert find(home, "docker.io/library/a") == Credential(identity_token="t")
    assert find(home, "q.io/a") == Credential("file", "x")
    assert find(home, "r.io/a") == ANONYMOUS


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo the vault is sealed >&2; exit 3", HostError, "docker-credential-h: the vault is sealed"),
        ("exit 3", HostError, "exit status 3"),
        ("echo '[]'", HostError, "answered something else"),
        ('echo \'{"Username": 7, "Secret": "x"}\'', HostError, "answered something else"),
        ("echo nonsense", DataError, "JSON"),
    ],
)
def test_helpers_that_fail(home: Path, script: str, kind: type[Exception], message: str) -> None:
    helper(home, "h", script)
    write(home, {"credHelpers": {"q.io": "h"}})
    with pytest.raises(kind, match=message):
        find(home, "q.io/a")


def test_a_helper_that_is_not_there_or_is_no_name(home: Path) -> None:
    write(home, {"credsStore": "absent"})
    with pytest.raises(HostError, match="docker-credential-absent: no such program") as failure:
        find(home, "q.io/a")
    assert "credsStore" in failure.value.hint
    write(home, {"credHelpers": {"q.io": "../../bin/sh"}})
    with pytest.raises(DataError, match="a plain name is expected"):
        find(home, "q.io/a")


# ---- keeping


def test_login_is_kept_privately_and_the_rest_stays(home: Path) -> None:
    env = {"HOME": str(home)}
    write(home, {"auths": {"r.io": auth("r", "")}, "HttpHeaders": {"a": "b"}})
    assert store(env, "q.io", Credential("me", "pa:ss")) == docker_file(env)
    assert find(home, "q.io/a") == Credential("me", "pa:ss")
    store(env, "docker.io", Credential("hub", "x"))
    document = json.loads(Path(docker_file(env)).read_text())
    assert set(document["auths"]) == {"r.io", "q.io", "https://index.docker.io/v1/"}
    assert document["HttpHeaders"] == {"a": "b"}
    assert stat.S_IMODE(os.stat(docker_file(env)).st_mode) == 0o600
    assert os.listdir(home / ".docker") == ["config.json"], "nothing is left beside it"


def test_login_makes_its_directory_and_follows_a_link(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    store(env, "q.io", Credential("me", "x"))
    assert stat.S_IMODE(os.stat(tmp_path / ".docker").st_mode) == 0o700
    real = tmp_path / "dotfiles.json"
    Path(docker_file(env)).rename(real)
    Path(docker_file(env)).symlink_to(real)
    store(env, "r.io", Credential("me", "x"))
    assert Path(docker_file(env)).is_symlink()
    assert set(json.loads(real.read_text())["auths"]) == {"q.io", "r.io"}


def test_login_with_an_identity_token(home: Path) -> None:
    store({"HOME": str(home)}, "q.io", Credential("me", "", "token"))
    assert find(home, "q.io/a") == Credential("me", "", "token")


def test_login_and_logout_through_a_helper(home: Path) -> None:
    helper(home, "h", f'echo "$1 $server" >> {home}/log')
    write(home, {"credsStore": "h"})
    env = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
    assert store(env, "q.io", Credential("me", "x")) == "docker-credential-h"
    assert erase(env, "q.io")
    assert (home / "log").read_text().splitlines() == [
        'store {"ServerURL":"q.io","Username":"me","Secret":"x"}',
        "erase q.io",
    ]


def test_logout(home: Path) -> None:
    env = {"HOME": str(home)}
    write(home, {"auths": {"q.io": auth("me", ""), "https://index.docker.io/v1/": auth("hub", "")}})
    assert erase(env, "docker.io")
    assert not erase(env, "docker.io")
    assert find(home, "q.io/a").username == "me"


def test_a_directory_that_cannot_be_written(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(HostError, match="config.json: "):
        store({"HOME": str(home), "DOCKER_CONFIG": str(home / "file")}, "q.io", Credential("me", "x"))


def test_every_key_of_a_hub_repository() -> None:
    assert keys("docker.io/a/b")[:4] == (
        "docker.io/a/b",
        "docker.io/a",
        "docker.io",
        "https://index.docker.io/v1/",
    )
