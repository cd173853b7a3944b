"""The locks: requirements/*.lock hold what was tested, and pyproject.toml the ranges that others may install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLAIN: list[str] = PROJECT["dependencies"]
DEV: list[str] = [
    *PLAIN,
    *PROJECT["optional-dependencies"]["dev"],
    *PROJECT["optional-dependencies"]["media"],
]


def locked(name: str) -> dict[str, list[Requirement]]:
    """Package -> its pins, several where Pythons or platforms differ."""
    pins: dict[str, list[Requirement]] = {}
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for line in re.findall(r"^[a-z0-9].*?(?= \\$)", text, re.MULTILINE):
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_each_pin_is_exact_and_has_a_hash(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?! )", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(blocks) > 5
    for block in blocks:
        assert re.fullmatch(
            r"[a-z0-9-]+==[^ ]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block
        )


def test_no_lock_names_a_host() -> None:
    for file in (ROOT / "requirements").rglob("*"):
        assert file.is_dir() or "://" not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize(("name", "ranges"), [("plain", PLAIN), ("dev", DEV)])
def test_what_is_locked_is_in_the_ranges(name: str, ranges: list[str]) -> None:
    pins = locked(name)
    for wanted in map(Requirement, ranges):
        found = pins[canonicalize_name(wanted.name)]
        versions = [next(iter(pin.specifier)).version for pin in found]
        assert all(map(wanted.specifier.contains, versions)), (wanted, versions)


def test_tests_run_with_the_releases_that_are_installed_without_them() -> None:
    dev = locked("dev")
    for other in ("plain", "build"):
        for package, pins in locked(other).items():
            if other == "plain" or package in dev:
                assert dev[package] == pins


def test_dependencies_have_an_upper_bound() -> None:
    """The next major version of any of them may break an installation on any day."""
    for wanted in map(Requirement, PLAIN):
        assert {"<", "=="} & {each.operator for each in wanted.specifier}, wanted
