"""`python -m knarr`."""

from knarr.startup import install

install()

from knarr.cli.main import entry  # noqa: E402

entry()
