"""cwltool's command, from a process that has read CWL's schemas already.

A program. Each line of its input is a run: words, folder, variables, and two files for what it
writes. It answers with the process, and with its status when it has ended.
"""

from __future__ import annotations

import json
import os
import sys

from cwltool import main, process


def run(words: list[str], folder: str, variables: dict[str, str], out: str, err: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv[:] = ["cwltool", *words]
    # A callback, for without one it forgets the schemas first.
    sys.exit(main.run(words, custom_schema_callback=lambda: None))


if __name__ == "__main__":
    process.get_schema("v1.2")
    while line := sys.stdin.readline():
        if pid := os.fork():
            print(pid, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            run(**json.loads(line))
