"""`python -m knarr`."""

import _signal

# Until `entry` can catch it, Ctrl-C ends this as it ends any program: without a word. Where it is ignored it stays so.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from knarr.startup import install

install()

from knarr.cli.main import entry  # noqa: E402

entry()
