"""A process whose stderr is the log: all its output is in files of limited size."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ollamapy.daemon.log import OneLine
from tests.served import until

START = """
import logging, os, sys
from pathlib import Path
from ollamapy.daemon import log
log.LIMIT = 1000
path = Path(sys.argv[1])
assert log.is_stderr(path)
logging.basicConfig(handlers=[log.RotatedLog(path)], level=logging.INFO, format="%(message)s")
"""


def written(path: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that runs ``code`` with the log as its stdout and stderr."""
    with path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", START + code, str(path)], stdin=-1, stdout=log, stderr=log
        )


def lines(folder: Path) -> list[str]:
    """All lines, the oldest first."""
    files = sorted(folder.iterdir(), reverse=True)
    return "".join(file.read_text() for file in files).splitlines()


def test_a_log_is_renamed_before_it_grows_too_large(tmp_path: Path) -> None:
    code = "for n in range(1000): logging.info('line %d', n)"
    assert written(tmp_path / "daemon.log", code).wait(30) == 0
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    kept = lines(tmp_path)
    assert len(kept) > 300
    assert kept == [f"line {n}" for n in range(1000 - len(kept), 1000)]


def test_output_past_logging_is_in_the_newest_file_too(tmp_path: Path) -> None:
    code = """
for n in range(150):
    logging.info('line %d', n)
    os.write(2, b'raw %d\\n' % n)
    os.write(1, b'out %d\\n' % n)
logging.info('a surrogate: \\udc80')
raise SystemExit('the end')
"""
    log = tmp_path / "daemon.log"
    assert written(log, code).wait(30) == 1
    kept = lines(tmp_path)
    assert kept[-2:] == [r"a surrogate: \udc80", "the end"]
    assert kept[-5:-2] == ["line 149", "raw 149", "out 149"]
    assert log.read_text().endswith("the end\n") and log.stat().st_size < 1100


def test_a_log_that_is_too_large_is_renamed_at_the_first_line(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text("old\n" * 1000)
    assert written(log, "logging.info('new')").wait(30) == 0
    assert log.read_text() == "new\n"
    assert (tmp_path / "daemon.log.1").read_text() == "old\n" * 1000


def test_two_daemons_write_to_the_newest_file(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    waiting = written(log, "logging.info('one'); sys.stdin.readline(); logging.info('two')")
    until(lambda: log.read_text() == "one\n", "it has begun")
    assert written(log, "for n in range(100): logging.info('line %d', n)").wait(30) == 0
    waiting.communicate(b"\n", 30)
    assert log.read_text().endswith("line 99\ntwo\n")
    assert lines(tmp_path) == ["one", *(f"line {n}" for n in range(100)), "two"]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed")
def test_a_removed_home_is_no_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = """
for n in range(200):
    logging.info('line %d', n)
    if n == 100:
        sys.stdin.readline()
os.write(1, b'not reached') if log.is_stderr(path) else sys.exit(7)
"""
    process = written(home / "daemon.log", code)
    until(lambda: (home / "daemon.log").read_text().endswith("line 100\n"), "it waits")
    shutil.rmtree(home)
    process.communicate(b"\n", 30)
    assert process.returncode == 7 and not home.exists()


def test_another_file_is_not_stderr(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from ollamapy.daemon.log import is_stderr;"
    code += "sys.exit(is_stderr(Path(sys.argv[1])))"
    (tmp_path / "daemon.log").touch()
    for name in ("daemon.log", "none"):
        assert subprocess.call([sys.executable, "-c", code, str(tmp_path / name)]) == 0


def test_a_record_is_one_line_and_a_traceback_is_indented() -> None:
    formatter = OneLine()
    forged = "x\r\n2026-01-01 00:00:00,000 INFO all is well\x1b[2J\u202e"
    try:
        raise ValueError(forged)
    except ValueError as error:
        found = sys.exc_info()
        assert str(error) == forged
    record = logging.LogRecord("n", logging.WARNING, "f.py", 1, "of %s", (forged,), found)
    first, *more = formatter.format(record).split("\n")
    assert first.endswith(
        " WARNING of x\\r\\n2026-01-01 00:00:00,000 INFO all is well\\x1b[2J\\u202e"
    )
    assert more[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") and line.isprintable() for line in more)
    assert more[-1] == "  2026-01-01 00:00:00,000 INFO all is well\\x1b[2J\\u202e"
