"""`python -m knarr`."""

from knarr.startup import enter

enter("knarr")
