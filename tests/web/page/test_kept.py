"""HTML that is kept: made once, within a bound."""

from __future__ import annotations

from ollamapy.web.page.kept import KeptHtml
from ollamapy.web.page.markdown import rendered


def test_html_is_made_once() -> None:
    kept = KeptHtml()
    first = kept.blocks("a\n\nb")
    assert first == rendered("a\n\nb") == ["<p>a</p>", "<p>b</p>"]
    assert kept.blocks("a\n\nb") is first


def test_what_was_not_asked_for_longest_is_forgotten() -> None:
    kept = KeptHtml(most=700)  # three short texts
    a, b, c = (kept.blocks(text) for text in "abc")
    assert kept.blocks("a") is a
    d = kept.blocks("d")
    assert kept.blocks("c") is c and kept.blocks("a") is a and kept.blocks("d") is d
    assert kept.blocks("b") is not b


def test_a_text_that_is_larger_than_all_is_made_each_time() -> None:
    kept = KeptHtml(most=300)
    long = "x" * 1000
    assert kept.blocks(long) == rendered(long) == kept.blocks(long)
    small = kept.blocks("a")
    assert kept.blocks("a") is small
