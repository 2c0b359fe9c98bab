"""Getting in: basic, bearer, identity tokens; what is sent to whom, and what never is."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from contract.registry.conftest import MakeClient
from contract.registry.hostile import Hostile, Reply, Tokens, answer, basic, redirect, status
from harness.images import MANIFEST, MadeImage
from knarr.engine.login import domain_of, logout
from knarr.engine.login import login as login_to
from knarr.errors import KnarrError, NotFound, RemoteError, UsageError
from knarr.oci.image import Manifest
from knarr.oci.manifest import read_manifest
from knarr.oci.reference import parse
from knarr.registry.credentials import Credentials


def login(tmp_path: Path, host: str, user: str = "", password: str = "", **more: str) -> str:
    """A docker configuration directory that knows `host`."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
    entry = {**({"auth": auth} if auth else {}), **more}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return str(tmp_path)


def fails(source: Any, kind: type[KnarrError]) -> KnarrError:
    with pytest.raises(kind) as failure:
        source.manifest()
    assert failure.value.message.isprintable()
    return failure.value


def everything(client: Any, reference: str) -> None:
    source = client.source(parse(reference))
    manifest = read_manifest(source.manifest().body, MANIFEST, "it")
    assert isinstance(manifest, Manifest)
    for layer in manifest.layers:
        reader = source.blob(layer)
        while reader.read():
            pass


def test_basic(hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.guard = basic("me", "se:cret")
    everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "se:cret")), reference)
    refused = fails(client().source(parse(reference)), NotFound)
    assert "pull access denied for" in refused.message
    assert "knarr login" in refused.hint
    wrong = client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "wrong"))
    before = len(hostile.seen)
    fails(wrong.source(parse(reference)), NotFound)
    assert len(hostile.seen) - before == 3, "probe, asked, refused, and not again"


def test_nothing_is_sent_before_it_is_asked_for(
    hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path
) -> None:
    reference = hostile.add("a", "latest", image)
    everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "secret")), reference)
    assert not [r for r in hostile.seen if "Authorization" in r.headers]


def test_anonymous_token_is_fetched_once(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("team/a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")
    hostile.guard = tokens.guard
    everything(client(), reference)
    assert tokens.issued == 1
    asked = next(r.path for r in hostile.seen if r.path.startswith("/token"))
    assert asked == "/token?service=reg.test&scope=repository%3Ateam%2Fa%3Apull"


def test_token_with_a_password(
    hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.guard = Tokens(f"http://{hostile.host}/token?x=1", user="me", password="secret").guard
    everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "secret")), reference)
    assert any(r.path.startswith("/token?x=1&service=") and "account=me" in r.path for r in hostile.seen)
    wrong = client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "wrong"))
    refused = fails(wrong.source(parse(reference)), RemoteError)
    assert "unauthorized" in refused.message
    assert "incorrect username or password" in refused.message
    anonymous = fails(client().source(parse(reference)), NotFound)
    assert "pull access denied" in anonymous.message


def test_identity_token(hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.guard = Tokens(f"http://{hostile.host}/token", identity="refresh-me").guard
    everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, identitytoken="refresh-me")), reference)
    posted = next(r for r in hostile.seen if r.method == "POST")
    assert b"grant_type=refresh_token" in posted.body
    assert b"client_id=knarr" in posted.body


def test_a_registry_token_is_used_as_it_is(
    hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path
) -> None:
    reference = hostile.add("a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")
    tokens.valid.add("given")
    hostile.guard = tokens.guard
    everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, registrytoken="given")), reference)
    assert tokens.issued == 0


def test_a_token_that_is_revoked_in_between(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")
    hostile.guard = tokens.guard
    c = client()
    everything(c, reference)
    tokens.valid.clear()
    everything(c, reference)
    assert tokens.issued == 2


def test_an_expired_token_is_not_sent(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")
    hostile.guard = tokens.guard
    c = client()
    c.source(parse(reference)).manifest()
    held = c._authorizer._held
    held.update({key: one._replace(until=0.0) for key, one in held.items()})
    before = len(hostile.seen)
    c.source(parse(reference)).manifest()
    assert "Authorization" not in hostile.seen[before].headers


def test_threads_share_one_token(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")
    hostile.guard = tokens.guard
    c = client()
    threads = [threading.Thread(target=everything, args=(c, reference)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tokens.issued == 1


def test_a_registry_that_is_never_content(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    tokens = Tokens(f"http://{hostile.host}/token")

    def guard(request: Any) -> Reply | None:
        tokens.valid.clear()
        return tokens.guard(request)

    hostile.guard = guard
    refused = fails(client().source(parse(reference)), NotFound)
    assert "pull access denied" in refused.message
    assert tokens.issued <= 3


@pytest.mark.parametrize(
    "challenge",
    [
        "Bearer", "Bearer realm=", 'Bearer realm=""', 'Bearer realm="file:///etc/passwd"', 'Bearer realm="x',
        'Bearer realm="/token"',
    ],
)  # fmt: skip
def test_challenges_without_sense(
    hostile: Hostile, client: MakeClient, image: MadeImage, challenge: str
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", status(401, WWW_Authenticate=challenge))
    assert "without saying where to get it" in fails(client().source(parse(reference)), RemoteError).message


@pytest.mark.parametrize("challenge", ["", ",,,", "Negotiate", 'Digest realm="x"', "=", "\xff"])
def test_challenges_we_cannot_meet(
    hostile: Hostile, client: MakeClient, image: MadeImage, challenge: str
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", status(401, WWW_Authenticate=challenge))
    assert "pull access denied" in fails(client().source(parse(reference)), NotFound).message


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Reply(200, b"not json"), "is not JSON"),
        (Reply(200, b"{}"), "has no token"),
        (Reply(200, b'{"token": 7}'), "has no token"),
        (Reply(200, b'{"token": "a\\r\\nX: y"}'), "has characters no token has"),
        (Reply(200, b'{"token": "\xc3\xa9"}'), "has characters no token has"),
        (Reply(500, b""), "answered 500"),
        (Reply(302, b"", headers={"Location": "/token"}), "redirects in a loop"),
    ],
)
def test_token_servers_that_lie(
    hostile: Hostile, client: MakeClient, image: MadeImage, reply: Reply, line: str
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.guard = Tokens(f"http://{hostile.host}/token").guard
    if reply.status == 302:
        hostile.on("/token", redirect("/token"))
    else:
        hostile.on("/token", answer(reply))
    assert line in fails(client().source(parse(reference)), RemoteError).message


def test_authorization_does_not_follow_a_redirect(
    hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path
) -> None:
    elsewhere = Hostile()
    try:
        elsewhere.blobs.update(image.blobs)
        reference = hostile.add("a", "latest", image)
        hostile.guard = basic("me", "secret")

        def away(handler: Any, honest: Reply) -> bool:
            if honest.status == 401:
                return False
            return redirect(f"http://{elsewhere.host}{handler.path}")(handler, honest)

        hostile.on("/blobs/", away)
        everything(client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "secret")), reference)
        assert elsewhere.count("/blobs/") == 2
        assert not [r for r in elsewhere.seen if "Authorization" in r.headers]
    finally:
        elsewhere.close()


def test_a_challenge_from_elsewhere_is_not_met(
    hostile: Hostile, client: MakeClient, image: MadeImage, tmp_path: Path
) -> None:
    """The place a redirect leads to may not ask for the registry's password."""
    elsewhere = Hostile()
    try:
        elsewhere.guard = basic("me", "secret")
        reference = hostile.add("a", "latest", image)
        hostile.on("/manifests/", redirect(f"http://{elsewhere.host}/v2/a/manifests/latest"))
        c = client(DOCKER_CONFIG=login(tmp_path, hostile.host, "me", "secret"))
        assert "pull access denied" in fails(c.source(parse(reference)), NotFound).message
        assert not [r for r in elsewhere.seen + hostile.seen if "Authorization" in r.headers]
    finally:
        elsewhere.close()


# ---- login


@pytest.mark.parametrize("kind", ["basic", "token", "open"])
def test_login(hostile: Hostile, tmp_path: Path, kind: str) -> None:
    env = {"HOME": str(tmp_path)}
    if kind == "basic":
        hostile.guard = basic("me", "secret")
    elif kind == "token":
        tokens = Tokens(f"http://{hostile.host}/token", user="me", password="secret")
        hostile.guard = tokens.guard
    assert login_to(f"http://{hostile.host}/v2/", "me", "secret", env=env) == str(
        tmp_path / ".docker/config.json"
    )
    assert Credentials(env).find(f"{hostile.host}/a").password == "secret"
    if kind != "open":
        with pytest.raises(RemoteError, match="unauthorized"):
            login_to(hostile.host, "me", "wrong", env=env)
        assert Credentials(env).find(f"{hostile.host}/a").password == "secret", (
            "a refused login changes nothing"
        )
    assert logout(hostile.host, env=env)
    assert not logout(hostile.host, env=env)


@pytest.mark.parametrize(
    ("typed", "domain"),
    [
        ("", "docker.io"), ("https://index.docker.io/v1/", "docker.io"), ("quay.io", "quay.io"),
        ("localhost:5000", "localhost:5000"),
    ],
)  # fmt: skip
def test_the_words_for_a_registry(typed: str, domain: str) -> None:
    assert domain_of(typed) == domain


@pytest.mark.parametrize("typed", ["quay", "quay io", "http://", "a@b.io", "quay.io:x"])
def test_words_that_are_no_registry(typed: str) -> None:
    with pytest.raises(UsageError):
        domain_of(typed)
