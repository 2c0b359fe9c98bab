"""knarr login"""

from __future__ import annotations

import sys

from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _login(parsed: Parsed) -> int:
    from knarr.engine.login import domain_of, login

    server = parsed.args[0] if parsed.args else ""
    domain = domain_of(server)
    username, password = parsed.text("username"), parsed.text("password")
    if parsed.flag("password-stdin"):
        if parsed.given("password"):
            raise UsageError("--password and --password-stdin exclude each other")
        if not username:
            raise UsageError("--password-stdin needs --username")
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    elif parsed.given("password"):
        print(
            "knarr: warning: a password on the command line is seen by everyone here; use --password-stdin",
            file=sys.stderr,
        )
    if not username:
        username = _ask(f"Username for {domain}: ", hidden=False)
    if not password:
        password = _ask("Password: ", hidden=True)
    place = login(domain, username, password, config=Engine().paths.config)
    if not place.startswith("docker-credential-"):
        print(f"knarr: warning: the password is kept unencrypted in {place}", file=sys.stderr)
    print("Login Succeeded")
    return 0


def _ask(question: str, *, hidden: bool) -> str:
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for a user name and password: standard input is not a terminal",
                         hint="use --username and --password-stdin")  # fmt: skip
    if hidden:
        from getpass import getpass

        answer = getpass(question)
    else:
        answer = input(question).strip()
    if not answer:
        raise UsageError("login: nothing was typed")
    return answer


COMMAND = Command(
    "login",
    "Log in to a registry, docker.io if none is named.",
    "login [OPTIONS] [SERVER]",
    _login,
    (
        Option("username", "User name", short="u", metavar="NAME"),
        Option("password", "Password", short="p", metavar="TEXT"),
        Option("password-stdin", "Read the password from standard input", "flag"),
    ),
    maximum=1,
)
