"""Commands in HTCondor's place, as its manual describes them: each job is a process here.

No package of this system has HTCondor. What dask-jobqueue submits, and what is looked for
afterwards, has to hold together all the same: the description, how its arguments are quoted, the
files that a job is sent, the folder of its own in which it runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

COMMANDS = ("condor_submit", "condor_q", "condor_rm")

PROGRAM = r"""
import json, os, re, shlex, shutil, signal, subprocess, sys, tempfile
from pathlib import Path

pool, command = Path(__file__).parent, Path(sys.argv[0]).name
if command == "condor_submit":
    assert all(line.partition("=")[2] or line.lower() == "queue" or line[0] == "#"
               for line in Path(sys.argv[1]).read_text().splitlines() if line.strip())
    pairs = (line.partition("=")[::2] for line in Path(sys.argv[1]).read_text().splitlines())
    job = {name.strip().lower(): value.strip() for name, value in pairs}
    assert (job["should_transfer_files"], job["transfer_output_files"]) == ("YES", '""')
    folder = tempfile.mkdtemp(prefix="scratch-", dir=pool)
    for file in job["transfer_input_files"].split(","):
        shutil.copy(file.strip(), folder)
    # Within double quotes "" is one of them, within single quotes '' is.
    words = job["arguments"].strip('"').replace('""', '"')
    mark = "\0"
    arguments = [word.replace(mark, "'") for word in shlex.split(words.replace("''", mark))]
    process = subprocess.Popen(
        [job["executable"], *arguments], cwd=folder, start_new_session=True,
        env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=open(Path(folder, "stderr"), "wb"),
    )
    (pool / f"{process.pid}.job").write_text(json.dumps(job))
    print(f"Submitting job(s).\n1 job(s) submitted to cluster {process.pid}.")
elif command == "condor_q":
    assert sys.argv[1::2] == ["-constraint", "-autoformat"], sys.argv
    name = re.fullmatch(r'DaskClaimRun == ("\w+-\w+")', sys.argv[2])[1]
    for file in pool.glob("*.job"):
        if json.loads(file.read_text())["my.daskclaimrun"] == name:
            print(file.stem)
else:
    for number in (word.partition(".")[0] for word in sys.argv[1:]):
        try:
            os.killpg(int(number), signal.SIGKILL)
        except ProcessLookupError:
            pass
        (pool / f"{number}.job").unlink(missing_ok=True)
"""


class Pool:
    """The commands in a `folder`; whatever is submitted, its description stays there."""

    def __init__(self, folder: Path) -> None:
        for name in COMMANDS:
            (folder / name).write_text(f"#!{sys.executable}\n{PROGRAM}")
            (folder / name).chmod(0o755)
        self.folder = folder
        self.variables = {"PATH": f"{folder}:{os.environ['PATH']}"}

    def jobs(self) -> list[Path]:
        return list(self.folder.glob("*.job"))
