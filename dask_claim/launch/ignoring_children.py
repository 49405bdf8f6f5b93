"""Becomes a command that ignores SIGCHLD. The launcher runs this file; nobody imports it.

A parent can hand "ignored" down only while it ignores the signal itself, and loses the status of
every child that ends meanwhile. Arguments: the value of LC_CTYPE, which Python sets for itself, and
the command.
"""

import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    locale, *command = sys.argv[1:]
    os.environ.pop("LC_CTYPE", None)
    if locale:
        os.environ["LC_CTYPE"] = locale
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"dask-claim: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(126)
