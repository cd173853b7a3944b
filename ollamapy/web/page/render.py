"""One block of Markdown as clean HTML: parsed by markdown-it, code coloured by Pygments as classes, formulas as MathML.

The Markdown was written by a model, so it is hostile: HTML in it is text, and nh3 removes from the result whatever is not on the
list below, should one of the libraries let something through. Nothing that the HTML has loads anything: an image of another
host becomes a link. Each call has a time limit; the libraries are imported when the first block is rendered.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, MutableMapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Environment = MutableMapping[str, Any]
"""What markdown-it passes to every rule: ``references`` (of links, by label), ``levels`` (of the open headings),
``deadline`` (in the time of this thread), and for text that is being written ``coloured`` (code, by its language)."""

MOST_CODE = 40_000  # characters of code that are coloured
MOST_FORMULA = 4_000  # characters of a formula that is set
MOST_HTML = 300_000  # characters of a block's HTML
MOST_MARKS = 20  # combining marks of one letter
_LITTLE_CODE = 1_000  # characters that are coloured again each time
_NESTING = 30  # lists in lists, quotes in quotes, brackets in brackets
_FIRST_HEADING, _LAST_HEADING = 3, 6  # above them are the page's own and the message's
_LANGUAGE = re.compile(r"[\w#+.-]{1,30}")
_ADDRESS = re.compile(r"https?://[^\s<>\"'`]+[^\s<>\"'`.,;:!?)\]}*_~]", re.IGNORECASE)
_ALIGNED = re.compile(
    r"\\(begin|end)\{(?:align|aligned|alignedat|gathered|gather\*?|split|equation\*?)\}"
)
"""The environments that are set as align*: without numbers, which would not be those that the text speaks of."""
_MARKED = re.compile(
    rf"[^\w\s!-~]{{{MOST_MARKS + 1},}}"
)  # what may have too many marks: no letters, no tags
_TASK = re.compile(r"\[([ xX])\]\s")

_MATH = frozenset(
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle msub msup msubsup munder mover munderover mtable mtr mtd"
    " mpadded mphantom menclose mmultiscripts mprescripts semantics".split()
)
_TAGS = _MATH | frozenset(
    "a blockquote br code div em h3 h4 h5 h6 hr img li ol p pre s span strong table tbody td th thead tr ul".split()
)
_ATTRIBUTES = {
    "a": {"href", "target"},
    "code": {"class"},
    "div": {"class"},
    "img": {"src", "alt"},
    "ol": {"start"},
    "pre": {"class", "data-language"},
    "span": {"class"},
    "td": {"class"},
    "th": {"class"},
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "form", "lspace", "rspace", "minsize", "maxsize", "movablelimits"},
    "mspace": {"width"},
    "mfrac": {"linethickness"},
    "mstyle": {"displaystyle", "scriptlevel", "mathvariant"},
    "mtable": {"displaystyle", "columnalign", "rowspacing", "columnspacing"},
    "mtd": {"columnalign"},
    "menclose": {"notation"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "mpadded": {"width", "height", "depth", "lspace", "voffset"},
}
_IMAGE_DATA = re.compile(r"data:image/(png|jpeg|gif|webp);base64,", re.IGNORECASE)


class TooSlow(Exception):
    """A block takes too long to render, or its HTML would take too long to show."""


def check_time(env: Environment) -> None:
    """Raise TooSlow once the time is over."""
    if time.thread_time() > env["deadline"]:
        raise TooSlow


def environment() -> Environment:
    """The environment of a text whose blocks are rendered one after another."""
    return {"references": {}, "levels": [], "deadline": 0.0}


class Parsed(NamedTuple):
    """A block of Markdown: the line of its source at which it begins, and its tokens, without those within its lines."""

    line: int
    tokens: list[Token]


def parse(source: str, env: Environment, seconds: float) -> list[Parsed]:
    """The blocks of Markdown; definitions of links are noted in the environment. Raises TooSlow after so many seconds, and
    RecursionError for what is nested too deep."""
    env["deadline"] = time.thread_time() + seconds
    tokens: list[Token] = []
    parser = _parser()
    parser.block.parse(source, parser, env, tokens)
    found: list[Parsed] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0 and token.map:
            found.append(Parsed(token.map[0], []))
        found[-1].tokens.append(token)
    return found


def render(tokens: list[Token], env: Environment, seconds: float) -> str:
    """The HTML of blocks, each of which is rendered once: their tokens are changed. Raises as :func:`parse`."""
    from markdown_it.rules_core import StateCore

    env["deadline"] = time.thread_time() + seconds
    parser = _parser()
    state = StateCore("", parser, env, tokens)
    parser.core.process(state)
    html: str = parser.renderer.render(state.tokens, parser.options, env)
    if len(html) > MOST_HTML:
        raise TooSlow
    return clean(html)


def plain(text: str) -> str:
    """A text as it is, for what cannot be rendered."""
    return f'<pre class="plain">{escape(_with_few_marks(text), quote=False)}</pre>'


def clean(html: str) -> str:
    """HTML with nothing but what is on the lists above."""
    cleaned: str = _cleaner().clean(html)
    return _with_few_marks(cleaned)


def _with_few_marks(text: str) -> str:
    """A text without the combining marks of a letter beyond MOST_MARKS: a browser needs minutes for a letter with 100,000."""
    return text if text.isascii() else _MARKED.sub(_few_marks, text)


def _few_marks(match: re.Match[str]) -> str:
    kept: list[str] = []
    n_marks = 0
    for character in match[0]:
        n_marks = n_marks + 1 if unicodedata.category(character).startswith("M") else 0
        if n_marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


# ---- the parser ------------------------------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.amsmath import amsmath_plugin

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": _NESTING})
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.disable(
        ["normalize", "block"]
    )  # the core's rules are for blocks that are parsed already
    amsmath_plugin(parser)
    parser.block.ruler.before("code", "deadline", _check_deadline, {"alt": ["paragraph"]})
    parser.inline.ruler.before("text", "deadline", _check_deadline)
    parser.block.ruler.before("fence", "formula_block", _formula_block, {"alt": ["paragraph"]})
    parser.inline.ruler.before("escape", "formula_inline", _formula_inline)
    parser.core.ruler.push("addresses", _link_addresses)
    parser.core.ruler.push("tasks", _mark_tasks)
    for name, rule in _RENDER_RULES.items():
        parser.add_render_rule(name, rule)
    return parser


def _check_deadline(state: Any, *_: Any) -> bool:
    """A rule that never applies: rules are tried at every place of the text, so no text takes longer than its time."""
    check_time(state.env)
    return False


_FORMULAS = {r"\(": r"\)", r"\[": r"\]", "$$": "$$", "$": "$"}
"""How a formula begins -> how it ends. Those of two lines, and within a line those of two dollars, are set on their own."""


def _formula_block(state: Any, start: int, end: int, silent: bool) -> bool:
    r"""A formula between \[ and \], or $$ and $$, that begins a line and ends one. What begins like one and goes on in the next
    line is a block of its own, up to an empty line, also without an end: so its beginning never changes as a text grows."""
    begin, line_end = state.bMarks[start] + state.tShift[start], state.eMarks[start]
    opening = state.src[begin : begin + 2]
    if opening not in (r"\[", "$$"):
        return False
    closing, last = _FORMULAS[opening], start
    close = state.src.find(closing, begin + 2, line_end)
    if close >= 0 and state.src[close + 2 : line_end].strip(" .,;"):
        return False
    while close < 0 and last + 1 < end and not state.isEmpty(last + 1) and state.sCount[last + 1] >= state.blkIndent:  # fmt: skip
        last += 1
        close = state.src.find(closing, state.bMarks[last], state.eMarks[last])
    if not silent:
        text = state.getLines(start, last + 1, state.blkIndent, False).strip(" \n.,;")
        token = state.push(
            "formula_block" if text.endswith(closing) else "unset_formula", "math", 0
        )
        token.content = text.removeprefix(opening).removesuffix(closing)
        token.markup = opening
        token.map = [start, last + 1]
    state.line = last + 1
    return True


def _formula_inline(state: Any, silent: bool) -> bool:
    """A formula within a line. One between single dollars neither begins nor ends with a space, and no digit follows it: these
    are prices."""
    source, start = state.src, state.pos
    opening = next((each for each in _FORMULAS if source.startswith(each, start)), "")
    if not opening:
        return False
    begin = start + len(opening)
    most = min(begin + MOST_FORMULA, state.posMax)
    close = source.find(_FORMULAS[opening], begin, most)
    while opening == "$" and close >= 0 and not _is_end(source, begin, close):
        close = source.find("$", close + 1, most)
    if close <= begin:
        return False
    if not silent:
        kind = "formula_inline" if opening in (r"\(", "$") else "formula_block"
        state.push(kind, "math", 0).content = source[begin:close]
    state.pos = close + len(opening)
    return True


def _is_end(source: str, begin: int, close: int) -> bool:
    inside, after = source[begin:close], source[close + 1 : close + 2]
    return inside == inside.strip() and not inside.endswith("\\") and not after.isdigit()


def _link_addresses(state: Any) -> None:
    """Make addresses in the text links, outside of links and code."""
    for block in state.tokens:
        if block.type != "inline" or "://" not in block.content:
            continue
        children: list[Token] = []
        depth = 0
        for token in block.children:
            depth += {"link_open": 1, "link_close": -1}.get(token.type, 0)
            is_text = token.type == "text" and not depth
            children += _linked(token) if is_text else [token]
        block.children = children


def _linked(token: Token) -> list[Token]:
    from markdown_it.token import Token as Made

    found: list[Token] = []
    at = 0
    for match in _ADDRESS.finditer(token.content):
        found.append(Made("text", "", 0, content=token.content[at : match.start()]))
        found.append(Made("link_open", "a", 1, attrs={"href": match[0]}))
        found.append(Made("text", "", 0, content=match[0]))
        found.append(Made("link_close", "a", -1))
        at = match.end()
    return [*found, Made("text", "", 0, content=token.content[at:])] if found else [token]


def _mark_tasks(state: Any) -> None:
    """Show the items of a list of tasks with a box: what would be an input has no name for a screen reader."""
    tokens = state.tokens
    for before, paragraph, token in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (before.type, paragraph.type, token.type) != ("list_item_open", "paragraph_open", "inline"):  # fmt: skip
            continue
        text = token.children[0] if token.children else None
        if text and text.type == "text" and (match := _TASK.match(text.content)):
            text.content = ("☐ " if match[1] == " " else "☑ ") + text.content[match.end() :]


# ---- rules of rendering ----------------------------------------------------------------------------------------------

Rule = Callable[[Any, Sequence["Token"], int, Any, Environment], str]


def _fence(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    token = tokens[index]
    found = _LANGUAGE.match(token.info.strip())
    language = found[0] if found else ""
    code = _coloured(token.content, language, env)
    return f'<pre data-language="{escape(language)}"><code>{code}</code></pre>\n'


def _coloured(code: str, language: str, env: Environment) -> str:
    """Code as spans with classes; as it is, if there is no lexer for its language, or too much of it.

    Code that is being written has a memory in ``env["coloured"]``: what was coloured is kept while the code grows by a quarter,
    and what came since is coloured by itself.
    """
    if not language or len(code) > MOST_CODE:
        return escape(code, False)
    known, html = env.get("coloured", {}).get(language, ("", ""))
    if known and code.startswith(known) and len(code) < len(known) * 1.25 + _LITTLE_CODE:
        return str(html + _spans(code[len(known) :], language, env))
    if "coloured" not in env:
        return _spans(code, language, env)
    cut = code.rfind("\n") + 1
    html = _spans(code[:cut], language, env)
    env["coloured"][language] = (code[:cut], html)
    return html + _spans(code[cut:], language, env)


def _spans(code: str, language: str, env: Environment) -> str:
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code, False)
    parts: list[str] = []

    class _Out:
        def write(self, text: str) -> None:
            check_time(env)
            parts.append(text)

    HtmlFormatter(nowrap=True).format(lexer.get_tokens(code), _Out())
    return "".join(parts)


def _formula(display: str) -> Rule:
    def rule(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
        check_time(env)
        return formula(tokens[index].content.strip(), display)

    return rule


def formula(tex: str, display: str = "inline") -> str:
    """MathML of a formula, ``display`` "inline" or "block"; its source as code if it cannot be set."""
    from latex2mathml.converter import convert

    if len(tex) <= MOST_FORMULA:
        try:
            return convert(_ALIGNED.sub(r"\\\1{align*}", tex), display=display)
        except Exception:  # the converter raises many things for what is no TeX
            pass
    return f'<code class="formula">{escape(tex, False)}</code>'


def _unset_formula(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    return f"<p>{escape(tokens[index].markup + tokens[index].content, False)}</p>\n"


def _heading(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    """Headings below the page's own, without a level that is left out, as screen readers need it."""
    token = tokens[index]
    level = int(token.tag[1:])
    levels: list[int] = env["levels"]
    if token.nesting == 1:
        while levels and levels[-1] >= level:
            levels.pop()
        levels.append(level)
    shown = min(_FIRST_HEADING + len(levels) - 1, _LAST_HEADING)
    return f"<h{shown}>" if token.nesting == 1 else f"</h{shown}>\n"


def _link_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    return f'<a href="{escape(str(tokens[index].attrGet("href") or ""))}" target="_blank">'


def _image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    """An image that the answer itself contains; one that would have to be loaded is a link."""
    token = tokens[index]
    source = str(token.attrGet("src") or "")
    text = escape(token.content)
    if _IMAGE_DATA.match(source):
        return f'<img src="{escape(source)}" alt="{text}">'
    return f'<a href="{escape(source)}" target="_blank">{text or escape(source)}</a>'


def _cell(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Environment) -> str:  # fmt: skip
    token = tokens[index]
    side = re.search(r"right|center", str(token.attrGet("style") or ""))
    return f'<{token.tag} class="{side[0]}">' if side else f"<{token.tag}>"


def _html(html: str) -> Rule:
    return lambda renderer, tokens, index, options, env: html


_RENDER_RULES: dict[str, Rule] = {
    "fence": _fence,
    "code_block": _fence,
    "formula_inline": _formula("inline"),
    "formula_block": _formula("block"),
    "unset_formula": _unset_formula,
    "amsmath": _formula("block"),
    "heading_open": _heading,
    "heading_close": _heading,
    "link_open": _link_open,
    "image": _image,
    "table_open": _html('<div class="table"><table>\n'),
    "table_close": _html("</table></div>\n"),
    "th_open": _cell,
    "td_open": _cell,
}


# ---- cleaning --------------------------------------------------------------------------------------------------------


@cache
def _cleaner() -> nh3.Cleaner:
    import nh3

    return nh3.Cleaner(
        tags=set(_TAGS),
        attributes=_ATTRIBUTES,
        attribute_filter=_filtered,
        url_schemes={"http", "https", "mailto", "data"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )


def _filtered(tag: str, attribute: str, value: str) -> str | None:
    """Addresses with data in images only, and of images nothing else."""
    if attribute == "src":
        return value if _IMAGE_DATA.match(value) else None
    if attribute == "href" and value.strip().lower().startswith("data:"):
        return None
    return value
