"""What reads and runs the blocks of the documentation sees what is there, and notices what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, prose
from tests.docs.comparing import matches
from tests.docs.test_links import anchors

PAGE = """\
# A page: with `code` and [a link](x.md)

```sh
uno
```

- in a list:

  ```python
  duo
  ```

<!-- server -->
```sh
tres
```

<!-- not run: costs money -->

```sh
quattuor
```

```
quinque
```

The end.
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_are_found_with_their_marks(page: Path) -> None:
    assert list(blocks(page)) == [
        Block(page, 3, "sh", "uno\n"),
        Block(page, 9, "python", "  duo\n"),
        Block(page, 14, "sh", "tres\n", is_server=True),
        Block(page, 20, "sh", "quattuor\n", not_run="costs money"),
        Block(page, 24, "", "quinque\n"),
    ]


def test_a_block_that_does_not_end_is_an_error(page: Path) -> None:
    page.write_text("```sh\nuno\n")
    with pytest.raises(ValueError, match=":1: a block that does not end"):
        list(blocks(page))


def test_prose_is_what_is_left(page: Path) -> None:
    text = prose(page)
    assert text.splitlines()[0] == PAGE.splitlines()[0]
    assert not any(word in text for word in ("uno", "duo", "tres", "quattuor", "quinque", "```"))
    assert len(text.splitlines()) == len(PAGE.splitlines())


def test_anchors_are_those_of_github(page: Path) -> None:
    assert anchors(page) == {"a-page-with-code-and-a-link"}


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a  b\n", "a b", True),
        ("size 78 MB", "size 79 MB", True),
        ("took 347.322ms", "took 1.3s", True),
        ("id 9f42f34144ba", "id 00aabb1122cc", True),
        ("a [...] d", "a b\nc d", True),
        ("[...]", "", True),
        ("a [... some ...] d", "a b c d", True),
        ("size 78 MB", "size 78 GB", False),
        ("a", "a b", False),
        ("a b", "a", False),
        ("dead beef", "dead meat", False),
    ],
)
def test_a_session_is_compared_but_for_its_numbers(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same
