"""Markdown that grows becomes the same blocks as Markdown that is complete, and hostile Markdown costs little."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollamapy.web.page import render
from ollamapy.web.page.markdown import Markdown, rendered

PARTS = [
    "# A\n", "## B\n\n", "#### C\n", "text", " more ", "\n", "\n\n", "- a\n", "  - b\n", "1. one\n", "> quote\n", "```python\n",
    "x = 'a'\n", "```\n", "    code\n", "| a | b |\n|---|---|\n", "| 1 | 2 |\n", "$$\n", "x^2", "$y$", r"\(z\)", "\\[\n", "\\]\n", "**b", "**",
    "[l](http://a.b)", "---\n", "===\n", "<b>", "![i](http://e.f)", "- [x] done\n", "\r\n", "\r", "http://g.h/i ", "`c`",
]  # fmt: skip

"""Without definitions of links: one that comes after its use is unknown while the text grows."""


def grown(pieces: list[str]) -> list[str]:
    """The blocks of a text that comes in pieces and is shown after each; checks that final blocks stay as they are."""
    markdown = Markdown()
    shown: dict[int, str] = {}
    final: set[int] = set()
    for piece in pieces:
        markdown.feed(piece)
        for block in markdown.blocks():
            assert block.index not in final
            shown[block.index] = block.html
            final |= {block.index} if block.final else set()
    for block in markdown.finish():
        assert block.index not in final and block.final
        shown[block.index] = block.html
        final.add(block.index)
    return [shown[index] for index in sorted(final)]


@given(st.lists(st.sampled_from(PARTS), max_size=25))
@example(["text", "\r", "\n", "text"])
@settings(max_examples=150, deadline=None)
def test_a_text_that_grows_has_the_blocks_of_the_whole(pieces: list[str]) -> None:
    assert grown(pieces) == grown(["".join(pieces)])


def test_a_definition_that_is_being_written_counts_once_it_is_complete() -> None:
    pieces = ["[a]: https://b.c", "/d\n\n", "[a]"]
    assert grown(pieces) == grown(["".join(pieces)])
    assert 'href="https://b.c/d"' in grown(pieces)[-1]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *b* `c`", "<p>a <em>b</em> <code>c</code></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("### A\n\n# B\n\n### C", "<h3>A</h3><h3>B</h3><h4>C</h4>"),
        ("- [ ] a\n- [x] b", "<ul>\n<li>☐ a</li>\n<li>☑ b</li>\n</ul>"),
        ("|a|\n|-:|\n|1|", '<div class="table"><table>\n<thead>\n<tr>\n<th class="right">a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td class="right">1</td>\n</tr>\n</tbody>\n</table></div>'),
        ("```py\nx = 1\n```", '<pre data-language="py"><code><span class="n">x</span> <span class="o">=</span> <span class="mi">1</span>\n</code></pre>'),
        ("```nosuch\n<x>\n```", '<pre data-language="nosuch"><code>&lt;x&gt;\n</code></pre>'),
        ("```\nopen", '<pre data-language=""><code>open\n</code></pre>'),
        ("$a$ for $5 or $6", '<p><math display="inline"><mrow><mi>a</mi></mrow></math> for $5 or $6</p>'),
        ("is:\n\\[ a \\]", '<p>is:</p><math display="block"><mrow><mi>a</mi></mrow></math>'),
        ("$$\na\n$$", '<math display="block"><mrow><mi>a</mi></mrow></math>'),
        ("$$\na < b\n\n# b", "<p>$$\na &lt; b</p><h3>b</h3>"),
        ("$$a$$ is", '<p><math display="block"><mrow><mi>a</mi></mrow></math> is</p>'),
        (r"\(\frac{\)", r'<p><code class="formula">\frac{</code></p>'),
        ("https://a.b/c).", '<p><a href="https://a.b/c" target="_blank" rel="noopener noreferrer nofollow">https://a.b/c</a>).</p>'),
        ("[r]: https://a.b\n\n[r]", '<p><a href="https://a.b" target="_blank" rel="noopener noreferrer nofollow">r</a></p>'),
        ("", ""),
        (" \n\n ", ""),
    ],
)  # fmt: skip
def test_what_it_looks_like(text: str, html: str) -> None:
    assert "".join(rendered(text)) == html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1)) [b](&#106;avascript:alert(1)) <javascript:alert(1)>",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x) [b](file:///etc/passwd) [c](/api/chats) [d](//evil.example)",
        '![a](https://evil.example/beacon.png "t\\" onload=x")',
        "![a](data:image/svg+xml;base64,PHN2Zz4=)",
        "![a](/api/chats)",
        '```"><script>alert(1)</script>\nx\n```',
        "```html\n<script>alert(1)</script>\n```",
        r"$\href{javascript:alert(1)}{x} \style{color:red}{y} \text{<img src=x onerror=alert(1)>}$",
        r"$$<script>alert(1)</script>$$",
        "<http://a.b/\" onclick='x'>",
        'http://a.b/"onmouseover=alert(1)//',
        "[x]: javascript:alert(1)\n\n[x]",
        "<style>*{display:none}</style><iframe src=//evil.example></iframe><math><mi//xlink:href=javascript:x>",
    ],
)
def test_hostile_text_loads_and_runs_nothing(text: str) -> None:
    import re

    html = "".join(rendered(text))
    tags = re.findall(r"<[^>]*>", html)
    assert not re.search(r"<(script|style|iframe|svg|object|form|input)", html)
    for tag in tags:
        assert not re.search(r"""\s(on\w+|style|srcset|action|id|name)\s*=""", tag), tag
        for address in re.findall(r'(?:src|href)="([^"]*)"', tag):
            assert re.match(r"https?://|mailto:|data:image/(png|jpeg|gif|webp);base64,", address), (
                tag
            )
        assert "src=" not in tag or "data:image/" in tag


HOSTILE = {
    "a line of 1 MB": "x" * 1_000_000,
    "nested lists": "".join(f"{'  ' * depth}- x\n" for depth in range(500)),
    "10,000 lists in a line": "- " * 10_000 + "x",
    "10,000 quotes": ">" * 10_000 + "x",
    "brackets": "[" * 50_000,
    "links": "[a](" * 20_000,
    "images": "![" * 30_000,
    "emphasis": "*a _b " * 15_000,
    "ticks": "`a``b```" * 8_000,
    "open code": "```python\n" + "x = 1\n" * 20_000,
    "long table": "|a|\n|-|\n" + "|1|\n" * 20_000,
    "wide table": "|" + "a|" * 5_000 + "\n|" + "-|" * 5_000 + "\n" + "|" + "b|" * 5_000,
    "formulas": "$x^2$ " * 10_000,
    "deep formula": "$$" + "{" * 1_900 + "}" * 1_900 + "$$",
    "open formulas": r"\(" * 30_000,
    "paragraphs": "a\n\n" * 50_000,
    "definitions": "[a]: /b\n" * 8_000,
    "spans": "```html\n" + "<a " * 20_000,
    "zeros": "\x00" * 1_000,
    "half characters": "\ud800 a \udfff",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_little(name: str) -> None:
    started = time.thread_time()
    blocks = rendered(HOSTILE[name])
    spent = time.thread_time() - started
    assert spent < 60  # measured: 0.1 to 3; without the bounds, minutes
    assert all(len(block) <= 300_000 * 1.1 for block in blocks)


def test_code_that_is_long_stays_code() -> None:
    blocks = rendered("```python\n" + "x = 1\n" * 15_000 + "```\n\nafter")
    assert len(blocks) > 2 and blocks[-1] == "<p>after</p>"
    assert all(block.startswith('<pre data-language="python">') for block in blocks[:-1])


def test_open_code_is_coloured_as_complete_code_is() -> None:
    lines = [f'def f{n}(): return "a"  # comment\n' for n in range(60)]
    pieces = ["```python\n", *lines, "```\n"]
    assert grown(pieces) == rendered("".join(pieces))


def test_a_letter_has_few_marks() -> None:
    """A browser needs minutes to draw a letter with 100,000."""
    few = "a" + "\u0301" * render.MOST_MARKS
    assert "".join(rendered("a" + "\u0301" * 1000 + "b, \u0939\u093f\u0928\u094d\u0926\u0940")) == (
        f"<p>{few}b, \u0939\u093f\u0928\u094d\u0926\u0940</p>"
    )
    assert render.plain("a" + "\u0301" * 1000) == f'<pre class="plain">{few}</pre>'
    assert render.plain("\u2014" * 50 + "\U0001f600" * 30).count("\U0001f600") == 30
