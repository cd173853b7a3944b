"""Every code block of the documentation works as it stands: shell and Python are run, data are read by their parsers."""

from __future__ import annotations

import configparser
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ollamapy.config import builtin_library
from ollamapy.formats import lint
from ollamapy.registry.catalog import Catalog
from tests.docs.blocks import KINDS, PAGES, Block, blocks, prose
from tests.docs.comparing import matches
from tests.docs.workshop import Workshop, make_weights, workshop
from tests.served import ROOT

ALL = {page: list(blocks(page)) for page in PAGES}
NOT_RUN = {
    "README.md": 1,  # installing, as below
    "CONTRIBUTING.md": 2,  # the scripts of this repository
    "docs/install.md": 4,  # compiling llama.cpp, and removing what runs these tests
    "docs/clients.md": 2,  # LiteLLM and JavaScript have environments and tests of their own
    "docs/api.md": 1,  # ids of a chat and of its message
    "docs/chats.md": 4,  # a terminal, and chats that are there
    "docs/daemon.md": 1,  # systemd
    "docs/troubleshooting.md": 1,  # compiling
}
"""How many blocks of which page no test runs; why stands beside each."""


def _reads_ini(code: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(code)


def _reads_modelfile(code: str) -> None:
    errors = [each for each in lint.lint(code.encode(), lambda _: True) if each.severity == "error"]
    assert not errors


def _reads_family(code: str) -> None:
    """A YAML block is a file of the catalogue."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shown.yaml").write_text(code)
        family = Catalog((Path(folder), builtin_library())).family("shown")
    assert family is not None and family.entries


DATA: Mapping[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": _reads_family,
    "ini": _reads_ini,
    "modelfile": _reads_modelfile,
    "text": str,
}


def test_every_block_is_of_a_known_kind() -> None:
    """Any kind may be left out of what is run, if it says why."""
    found = (block for page in PAGES for block in ALL[page] if not block.not_run)
    assert not [block.place for block in found if block.kind not in KINDS]


def test_code_stands_in_fences() -> None:
    """Indented code would be seen by readers and by no test."""
    indented = re.compile(r"(?:\A|\n)\n(?: {4}|\t)\S")
    assert [page for page in PAGES if indented.search(prose(page))] == []


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for page in PAGES for block in ALL[page] if block.not_run]
    assert all(len(block.not_run) > 10 for block in left_out)
    assert Counter(str(block.page.relative_to(ROOT)) for block in left_out) == NOT_RUN


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in ALL[page] if block.kind in DATA and not block.not_run],
    ids=lambda block: block.place,
)
def test_data_can_be_read(block: Block) -> None:
    DATA[block.kind](block.code)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_weights(tmp_path_factory.mktemp("weights"))


EVERY_TIME = {"README.md", "api.md", "chats.md"}
"""The pages that change most; the long tests run the blocks of the others."""


def _runs(block: Block) -> bool:
    return block.kind not in DATA and not block.not_run


@pytest.mark.llama
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.name in EVERY_TIME else pytest.mark.long)
        for page in PAGES
        if any(map(_runs, ALL[page]))
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_blocks_of_a_page_run(page: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    with workshop(tmp_path, weights) as place:
        for block in filter(_runs, ALL[page]):
            _run(block, place)


def _run(block: Block, place: Workshop) -> None:
    if block.is_server:
        place.shell("ollamapy daemon stop")
        place.serve(block.code)
        return
    place.start()
    if block.kind == "console":
        _compare(block, place)
        return
    done = (place.python if block.kind == "python" else place.shell)(block.code)
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
    assert '"error"' not in done.stdout, f"{block.place}\n{done.stdout}"


def _compare(block: Block, place: Workshop) -> None:
    """Run each command of a session and compare what it prints."""
    for step in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        line, _, expected = step.partition("\n")
        done = place.run("bash", "-c", f"{place.here(line)} 2>&1")
        assert matches(expected, done.stdout), f"{block.place}: {line}\n{done.stdout}"
