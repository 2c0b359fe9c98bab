"""`python -m knarr`."""

from knarr.cli.main import entry

entry()
