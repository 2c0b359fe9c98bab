"""HTTP/1.1 without a network: what is sent, what is understood, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.registry.connection import Connection, Cut, Silent
from knarr.registry.http import (
    CHUNKED,
    HEAD_MAX,
    UNTIL_CLOSE,
    Head,
    Headers,
    Nonsense,
    NotHttp,
    body_length,
    chunk_size,
    head_end,
    parse_head,
    request,
    stays_open,
    target_of,
)


class Replies:
    """A stream that says what it was given, a few bytes at a time, and then ends."""

    def __init__(self, said: bytes, step: int = 7) -> None:
        self.said, self.step, self.sent = said, step, b""

    def recv(self, size: int, /) -> bytes:
        part, self.said = self.said[: min(size, self.step)], self.said[min(size, self.step) :]
        return part

    def sendall(self, data: bytes, /) -> None:
        self.sent += data

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


def head(*lines: str, status: int = 200, minor: int = 1) -> Head:
    return parse_head("\r\n".join((f"HTTP/1.{minor} {status} OK", *lines, "", "")).encode())


def answered(connection: Connection) -> bytes:
    connection.exchange("GET", "/", {}, None)
    return whole(connection)


def whole(connection: Connection) -> bytes:
    return b"".join(iter(lambda: connection.read1(1000), b""))


def test_a_request() -> None:
    assert request("GET", "/v2/", {"Host": "a:1", "X": "y"}, None) == (
        b"GET /v2/ HTTP/1.1\r\nHost: a:1\r\nX: y\r\n\r\n"
    )
    assert b"Content-Length: 3\r\n" in request("POST", "/", {}, b"abc")


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\0b", "caf\u2603"])
def test_a_field_is_one_field(value: str) -> None:
    with pytest.raises(ValueError):
        request("GET", "/", {"X": value}, None)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", "/"),
        ("http://h/a b", "/a%20b"),
        ("http://h/a%20b?x=%2F&y=/z", "/a%20b?x=%2F&y=/z"),
        ("http://h/\u2603?q=\u2603", "/%E2%98%83?q=%E2%98%83"),
        ('http://h/"<>', "/%22%3C%3E"),
    ],
)
def test_targets(url: str, target: str) -> None:
    assert target_of(url, absolute=False) == target
    assert target_of(url.replace("//h", "//me:pw@h"), absolute=True) == "http://h" + target


def test_fields_by_any_name_and_more_than_once() -> None:
    found = head("WWW-Authenticate: Basic", "www-authenticate:  Bearer x ", "A:").headers
    assert found.getlist("Www-Authenticate") == ["Basic", "Bearer x"]
    assert found.get("www-authenticate") == "Basic, Bearer x"
    assert found.get("A") == ""
    assert found.get("B", "none") == "none"
    assert found.getlist("B") == []


@pytest.mark.parametrize("data", [b"SSH-2.0", b"\x15\x03\x01", b"HTTP/2 200", b"<html>"])
def test_what_is_not_http_is_known_at_once(data: bytes) -> None:
    with pytest.raises(NotHttp):
        head_end(data)


@pytest.mark.parametrize(
    "first", ["HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 -20", "HTTP/1.7 200", "HTTP/1.1 099"]
)
def test_first_lines_that_are_none(first: str) -> None:
    with pytest.raises(NotHttp):
        parse_head(f"{first}\r\n\r\n".encode())


def test_a_first_line_needs_no_reason() -> None:
    assert parse_head(b"HTTP/1.1 204\r\n\r\n").status == 204
    assert parse_head(b"HTTP/1.0 404 \nA: b\n\n").headers.get("a") == "b"


@pytest.mark.parametrize(
    "line", ["no colon", " folded", ": nameless", "bad name: x", "Content-Length : 3", "n\u00e4me: x"]
)
def test_lines_that_are_no_fields(line: str) -> None:
    with pytest.raises(Nonsense):
        parse_head(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode("latin-1"))


def test_heads_without_end() -> None:
    assert head_end(b"HTTP/1.1 200 OK\r\n") == 0
    with pytest.raises(Nonsense):
        head_end(b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_MAX)
    with pytest.raises(Nonsense):
        parse_head(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n")


def test_how_long_a_body_is() -> None:
    assert body_length("GET", head("Content-Length: 12")) == 12
    assert body_length("GET", head("Content-Length: 12", "Content-Length: 12")) == 12
    assert body_length("GET", head()) == UNTIL_CLOSE
    assert body_length("GET", head("Transfer-Encoding: Chunked", "Content-Length: 3")) == CHUNKED
    assert body_length("HEAD", head("Content-Length: 12")) == 0
    assert body_length("GET", head("Content-Length: 12", status=304)) == 0


@pytest.mark.parametrize(
    "line",
    ["Content-Length: 1, 2", "Content-Length: -1", "Content-Length: +1", "Content-Length: 1_0",
     "Content-Length: \u00b2",
     "Content-Length: " + "9" * 30, "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity"],
)  # fmt: skip
def test_lengths_two_readers_could_read_differently(line: str) -> None:
    with pytest.raises(Nonsense):
        body_length("GET", parse_head(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode("latin-1")))


def test_which_connections_stay_open() -> None:
    assert stays_open(head())
    assert not stays_open(head("Connection: Keep-Alive, Close"))
    assert not stays_open(head(minor=0))
    assert stays_open(head("Connection: keep-alive", minor=0))


def test_chunk_lines() -> None:
    assert chunk_size(b"1aF") == 0x1AF
    assert chunk_size(b"0;name=value") == 0
    for line in (b"", b"-1", b"+1", b"0x1", b"g", b"1_0", b"f" * 16):
        with pytest.raises(Nonsense):
            chunk_size(line)


def test_answers_behind_one_another() -> None:
    stream = Replies(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwor\r\n2;x\r\nld\r\n0\r\nT: r\r\n\r\n",
        step=1,
    )
    connection = Connection(stream)
    assert connection.exchange("GET", "/", {}, None).status == 200
    assert whole(connection) == b"hello"
    assert connection.reusable
    connection.exchange("GET", "/", {}, None)
    assert not connection.reusable
    assert whole(connection) == b"world"
    assert connection.reusable
    with pytest.raises(Silent):
        connection.exchange("GET", "/", {}, None)


def test_what_comes_unasked_ends_a_connection() -> None:
    connection = Connection(Replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there", step=100))
    connection.exchange("GET", "/", {}, None)
    assert whole(connection) == b"hi"
    assert not connection.reusable


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_an_end_in_the_middle(said: bytes) -> None:
    connection = Connection(Replies(said))
    with pytest.raises(Cut):
        answered(connection)
    assert not connection.reusable


def test_an_end_that_is_the_end() -> None:
    connection = Connection(Replies(b"HTTP/1.1 200 OK\r\n\r\nall of it"))
    connection.exchange("GET", "/", {}, None)
    assert whole(connection) == b"all of it"
    assert not connection.reusable


def test_endless_answers_end() -> None:
    for said in (
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 10_000,
    ):
        connection = Connection(Replies(said, step=4096))
        with pytest.raises(Nonsense):
            answered(connection)


@given(st.binary(max_size=400), st.integers(1, 50), st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_chunked_gives_back_what_went_in(body: bytes, step: int, sizes: list[int]) -> None:
    said, left, turn = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body, 0
    while left:
        part, left = left[: sizes[turn % len(sizes)]], left[sizes[turn % len(sizes)] :]
        said += b"%x\r\n%b\r\n" % (len(part), part)
        turn += 1
    connection = Connection(Replies(said + b"0\r\n\r\n", step))
    connection.exchange("GET", "/", {}, None)
    assert whole(connection) == body
    assert connection.reusable


@given(st.binary(max_size=300))
def test_any_bytes_end_in_words_of_ours(data: bytes) -> None:
    for said in (
        data,
        b"HTTP/1.1 200 OK\r\n" + data,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data,
    ):
        connection = Connection(Replies(said))
        try:
            connection.exchange("GET", "/", {}, None)
            whole(connection)
        except (Cut, Silent, NotHttp, Nonsense):
            pass


def test_headers_are_empty_by_default() -> None:
    assert Headers().get("x") == ""
