"""Whole files, and what is no file: links, FIFOs, descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dask_claim import files
from dask_claim.files import write_whole

LONG = "é" * 300_000  # more than a pipe holds


def run(program: str, *arguments: object, before: tuple[str, ...] = (), **options: object) -> str:
    """Run this program in a process of its own; what it prints."""
    start = "import os, sys\nfrom pathlib import Path\nfrom dask_claim.files import write_whole\n"
    command = [*before, sys.executable, "-c", start + program, *map(str, arguments)]
    options.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run(command, check=True, timeout=30, **options)  # type: ignore[call-overload]
    return (done.stdout or b"").decode()


def test_a_new_file_has_the_permissions_of_any(tmp_path: Path) -> None:
    path = tmp_path / "file"
    run("os.umask(0o027)\nwrite_whole(Path(sys.argv[1]), 'x')", path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("x", 0o640)
    path.chmod(0o604)
    write_whole(path, "y")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("y", 0o604)
    assert [*tmp_path.iterdir()] == [path]


def test_the_umask_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a moment: it is that of every thread."""
    asked = list[int]()
    monkeypatch.setattr(os, "umask", asked.append)
    write_whole(tmp_path / "file", "x")
    write_whole(tmp_path / "file", "y")
    assert asked == []


@pytest.mark.parametrize("there", [True, False])
def test_link(there: bool, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    if there:
        target.write_text("old")
    link.symlink_to("deep/target")
    write_whole(link, "new")
    assert link.is_symlink()
    assert not target.is_symlink() and target.read_text() == "new"
    assert [*(tmp_path / "deep").iterdir()] == [target]


def test_fifo(tmp_path: Path) -> None:
    fifo, read = tmp_path / "fifo", list[str]()
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    write_whole(fifo, LONG)
    reader.join(timeout=10)
    assert read == [LONG]
    assert fifo.is_fifo()


def test_fifo_without_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.3)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="it has no reader"):
        write_whole(fifo, "x")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="its reader does not read"):
            write_whole(fifo, LONG)
    finally:
        os.close(reader)


def test_descriptor(tmp_path: Path) -> None:
    """Between what others write, whether a pipe or a file."""
    # As /dev/stdout is. Not that itself: code that replaces links would damage the machine.
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "link").symlink_to("stdout")
    program = """
print("before", flush=True)
for name in ("/dev/fd/1", "/proc/self/fd/1", "stdout", "link"):
    write_whole(Path(name), name + "\\n")
print("after")
"""
    told = "before\n/dev/fd/1\n/proc/self/fd/1\nstdout\nlink\nafter\n"
    assert run(program, cwd=tmp_path) == told
    with (tmp_path / "out").open("wb") as file:
        run(program, cwd=tmp_path, stdout=file)
    assert (tmp_path / "out").read_text() == told


def test_device_and_folder(tmp_path: Path) -> None:
    main, terminal = os.openpty()
    write_whole(Path(os.ttyname(terminal)), "x")
    assert os.read(main, 10) == b"x"
    os.close(main)
    os.close(terminal)
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, "x")
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "file", "x")


@pytest.mark.needs("root")
@pytest.mark.parametrize("how", ["file", "folder"])
def test_file_that_cannot_be_replaced(tmp_path: Path, how: str) -> None:
    """A mount of its own, as a container's /dev/termination-log; one in a read-only folder."""
    path, folder = tmp_path / "folder" / "receipt", tmp_path / "folder"
    folder.mkdir()
    for file in (path, tmp_path / "outside"):
        file.write_text("before, and longer than what comes")
    mount = f"mount --bind {tmp_path}/outside {path}"
    if how == "folder":
        mount += f" && mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
        mount += f" && {mount.split(' && ')[0]}"
    script = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "-")
    run("write_whole(Path(sys.argv[1]), 'after')", path, before=script)
    assert (tmp_path / "outside").read_text() == "after"
    assert os.listdir(folder) == ["receipt"]
