"""Links between the pages lead to files and headings that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, prose
from tests.served import ROOT

LINKED = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    *(ROOT / f"{name}/README.md" for name in ("benchmarks", "training")),
]
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def targets(page: Path) -> list[str]:
    """Where the links of a page lead, but for those to other sites."""
    found = [first or second for first, second in _LINK.findall(prose(page))]
    return [each for each in found if not re.match(r"https?:", each)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each) for each in headings]
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in targets(ROOT / "README.md")}
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= linked


def test_the_pages_are_in_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    tops = {page.relative_to(ROOT).parts[0] for page in LINKED}
    assert {top for top in tops if not top.endswith(".md")} <= set(included)
    assert "/*.md" in included
