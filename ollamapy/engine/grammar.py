"""From a Constraint to the tokens that may come next, by llguidance: grammars compiled, masks laid over logits.

One ``Grammars`` for a model compiles, on any thread; one ``Matcher`` for a request lives on the engine's thread. A
mask is one bit a token; laying it on 32,000 logits costs about 10 microseconds (a table turns each byte of it into eight
floats, 0 or minus infinity, which are added), and filling it 3.

What llguidance guarantees is not repeated here: it bounds a grammar's size and the work of each mask, and drops the GIL
while it compiles. Of llama.cpp it uses two pointers, to tokenize; nothing here deals with requests or slots.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import schemas
from ..errors import InvalidRequest
from ..types import Constraint

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

MOST_TEXT = 256 * 1024
"""Characters of a constraint: with llguidance's own limits it bounds what compiling costs to about a second."""

MOST_STATES = 50_000
"""Of the lexer, 1 to 2 kB each. llguidance's own limit is five times that, too much for one request."""

WHITESPACE = r"( |\n[ \t]{0,20})"
"""The white space allowed between two parts of JSON, once: a space, or a new line and its indentation (llama.cpp's grammars allow the
same). Without a bound a model that finds no continuation writes spaces for ever."""

STACK = 256 * 1024 * 1024
"""Bytes of stack for a thread that compiles or fills masks: llguidance recurses once for each rule that a rule refers to. It is
address space, and becomes memory only where it is used."""


_OVERRIDES: Any = {"whitespace_pattern": WHITESPACE, "coerce_one_of": True, "lenient": True}

ANY_JSON = Constraint("json")

CONTROL = b"\xff"
"""Begins the bytes of a control token."""


QUICK_FUEL, FUEL = 100_000, 1_000_000
"""llguidance's measure for making a grammar's lexer: some 0.1 s, enough for all but extreme grammars; and its own limit."""

MOST_REFUSALS = 64
"""Constraints whose refusal is remembered, for each model."""


class NeedsLonger(Exception):
    """A constraint is not compiled within the quick limit: it is extreme, or wrong."""


class TokenTable(NamedTuple):
    """A vocabulary in llguidance's form.

    ``pieces``: the bytes of each token, those of control tokens 0xFF and their name; ``ends``: the ids that end an answer;
    ``vocab`` and ``tokenize``: addresses of llama.cpp's vocabulary and its llama_tokenize.
    """

    pieces: list[bytes]
    ends: list[int]
    vocab: int
    tokenize: int


class Grammars:
    """Compiles constraints for one model. The table of its tokens is made at the first one: 0.2 s for 152,000 tokens."""

    def __init__(self, table: Callable[[], TokenTable]) -> None:
        self._table = table
        self._tokenizer: Any = None
        self._controls: Mapping[bytes, int] = {}  # names of control tokens that end nothing
        self._lock = threading.Lock()
        self._refused: dict[Constraint, str] = {}  # in the order in which they came
        self._json: Matcher | None = None  # never used, only copied

    def compile(self, constraint: Constraint, *, quick: bool = False) -> Matcher:
        """A matcher at the beginning of its grammar, its first mask computed once. Raises InvalidRequest naming what is wrong.

        ``quick``: raises NeedsLonger where more than a tenth of a second would go into it; what was refused before is refused
        at once. For any thread with ``STACK`` bytes of stack but the engine's, which it would hold up.
        """
        if len(constraint.text) > MOST_TEXT:
            raise InvalidRequest(
                f"the {_WHAT[constraint.kind]} has {len(constraint.text)} characters, at most {MOST_TEXT} are allowed"
            )
        if (words := self._refused.get(constraint)) is not None:
            raise InvalidRequest(words)
        tokenizer = self._made_tokenizer()
        kept = self._kept_json(tokenizer)
        if constraint == ANY_JSON and kept is not None:
            return kept.copy()
        grammar = _grammar(constraint, self._controls)
        try:
            return _compiled(grammar, tokenizer, QUICK_FUEL if quick else FUEL)
        except InvalidRequest as error:
            if quick:
                raise NeedsLonger from None
            part = self._wrong_part(constraint, tokenizer)
            words = part or f"the {_WHAT[constraint.kind]} cannot be used: {error}"
        self._refused[constraint] = words
        while len(self._refused) > MOST_REFUSALS:
            del self._refused[next(iter(self._refused))]
        raise InvalidRequest(words)

    def _wrong_part(self, constraint: Constraint, tokenizer: Any) -> str:
        """Which part of a constraint cannot be used and why; "" if each can."""
        for name, schema in constraint.parts:
            try:
                _compiled(_grammar(Constraint("schema", schema), self._controls), tokenizer, FUEL)
            except InvalidRequest as error:
                return f"the schema of {name} cannot be used: {error}"
        return ""

    def is_ready(self, constraint: Constraint) -> bool:
        """Does :meth:`compile` give a copy of what is there, on any thread?"""
        return constraint == ANY_JSON and self._json is not None

    def _kept_json(self, tokenizer: Any) -> Matcher | None:
        """The grammar of the most common constraint, compiled with the first one; None where the vocabulary has no brace."""
        if self._json is None:
            with contextlib.suppress(InvalidRequest):
                self._json = _compiled(_grammar(ANY_JSON, self._controls), tokenizer, FUEL)
        return self._json

    def _made_tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        with self._lock:
            if self._tokenizer is None:
                pieces, ends, vocab, tokenize = self._table()
                controls = {
                    piece[1:]: id for id, piece in enumerate(pieces) if piece[:1] == CONTROL
                }
                self._controls = {name: id for name, id in controls.items() if id not in ends}
                if (
                    not ends
                ):  # llguidance needs one; it is outside of the logits, so it is never sampled
                    pieces, ends = [*pieces, b"\xff<end>"], [len(pieces)]
                # Without "slices" (masks of common lexemes, made ahead) a first mask costs up to 0.3 ms instead of 0.1,
                # and the table a third.
                self._tokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
                    tokens=pieces,
                    vocab_ptr=vocab,
                    tokenize_fptr=tokenize,
                    eos_token=ends,
                    slices=[],
                )
            return self._tokenizer


def _compiled(grammar: str, tokenizer: Any, fuel: int) -> Matcher:
    """A matcher whose first masks could be computed. Raises InvalidRequest."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(
        initial_lexer_fuel=fuel, max_lexer_states=MOST_STATES, verbose_errors=False
    )
    matcher = Matcher(LLMatcher(tokenizer, grammar, log_level=0, limits=limits), tokenizer)
    matcher.fill()
    matcher.try_beginning(b"{")
    return matcher


class Matcher:
    """The state of one answer in its grammar. Not thread-safe."""

    __slots__ = (
        "_bits",
        "_bytes",
        "_matcher",
        "_pointer",
        "_size",
        "_spread",
        "_tokenizer",
        "warnings",
    )

    def __init__(self, matcher: Any, tokenizer: Any) -> None:
        import numpy

        self._matcher, self._tokenizer = matcher, tokenizer
        self._bits: NDArray[numpy.int32] = numpy.zeros((tokenizer.vocab_size + 31) // 32, "int32")
        self._bytes: NDArray[numpy.uint8] = self._bits.view("uint8")
        self._spread: NDArray[numpy.float32] = numpy.empty((self._bytes.size, 8), "float32")
        self._pointer, self._size = self._bits.ctypes.data, self._bits.nbytes
        self.warnings: list[str] = [] if matcher.is_error() else matcher.get_grammar_warnings()

    def copy(self) -> Matcher:
        """Another matcher in the same state."""
        return Matcher(self._matcher.deep_copy(), self._tokenizer)

    def mask(self, logits: NDArray[numpy.float32]) -> None:
        """Make the logits of all tokens that may not come next minus infinity, in place.

        An end token may come where the grammar accepts what there is. Raises InvalidRequest where the grammar turns out
        to take too much work.
        """
        import numpy

        self.fill()
        numpy.take(_float_mask(), self._bytes, axis=0, out=self._spread, mode="clip")
        numpy.add(logits, self._spread.reshape(-1)[: logits.size], out=logits)

    def fill(self) -> None:
        """Compute the bits of the tokens that may come next. Raises InvalidRequest."""
        self._matcher.unsafe_compute_mask_ptr(self._pointer, self._size)
        if self._matcher.is_error():
            raise InvalidRequest(_one_line(self._matcher.get_error()))

    def take(self, token: int) -> None:
        """Advance by this token, one that the mask allows. Raises InvalidRequest where that takes too much work."""
        if not self._matcher.consume_token(token):
            raise InvalidRequest(_one_line(self._matcher.get_error()))

    def try_beginning(self, text: bytes) -> None:
        """Look one step ahead: what an object may hold shows only behind its brace. Raises InvalidRequest.

        Where no answer begins with this text, there is nothing to see.
        """
        ahead = self._matcher.deep_copy()
        tokens = self._tokenizer.tokenize_bytes(text)
        if ahead.validate_tokens(tokens) == len(tokens) and ahead.consume_tokens(tokens):
            ahead.unsafe_compute_mask_ptr(self._pointer, self._size)
        if ahead.is_error():
            raise InvalidRequest(_one_line(ahead.get_error()))

    def begin_with(self, text: bytes) -> None:
        """The answer begins with this text, because one token held it together with what came before the grammar.

        Text that the grammar does not allow is passed over.
        """
        tokens = self._tokenizer.tokenize_bytes(text)
        if self._matcher.validate_tokens(tokens) == len(tokens):
            self._matcher.consume_tokens(tokens)

    @property
    def finished(self) -> bool:
        """Can nothing follow any more?"""
        return bool(self._matcher.is_stopped())


_made_mask: list[NDArray[numpy.float32]] = []


def _float_mask() -> NDArray[numpy.float32]:
    """256 x 8: for each byte of a mask what is added to the logits of its eight tokens, the lowest bit first."""
    if not _made_mask:
        import numpy

        bits = numpy.unpackbits(
            numpy.arange(256, dtype="uint8")[:, None], axis=1, bitorder="little"
        )
        _made_mask.append(numpy.where(bits, 0, -numpy.inf).astype("float32"))
    return _made_mask[0]


# ---- constraints as llguidance's grammars ------------------------------------------------------------------------------

_WHAT = {
    "json": "JSON grammar",
    "schema": "JSON schema",
    "regex": "regular expression",
    "choice": "list of choices",
    "gbnf": "GBNF grammar",
    "lark": "Lark grammar",
}


def _grammar(constraint: Constraint, controls: Mapping[bytes, int]) -> str:
    """A constraint in llguidance's own form. Raises InvalidRequest for what is not even a text of its kind."""
    from llguidance import LLMatcher

    match constraint.kind:
        case "json" | "schema" if constraint.unless:
            return LLMatcher.grammar_from_lark(_unless(_schema(constraint), constraint, controls))
        case "json" | "schema":
            return _json_grammar(_schema(constraint))
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.text)
        case "choice":
            return LLMatcher.grammar_from_lark(_choice(_parsed(constraint)))
        case "gbnf":
            return LLMatcher.grammar_from_lark(_from_gbnf(constraint.text))
        case "lark":
            return LLMatcher.grammar_from_lark(constraint.text)


def _parsed(constraint: Constraint) -> Any:
    try:
        return json.loads(constraint.text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the {_WHAT[constraint.kind]} is not valid JSON: {error}") from None


def _schema(constraint: Constraint) -> Any:
    if constraint.kind == "json":
        return {"type": "object"}
    schema = schemas.closed(schemas.usable(_parsed(constraint)))
    if not isinstance(schema, (dict, bool)):
        raise InvalidRequest("a JSON schema must be an object or a boolean")
    if schema is False:
        raise InvalidRequest("the JSON schema false allows no answer")
    return {} if schema is True else schema


def _unless(schema: Any, constraint: Constraint, controls: Mapping[bytes, int]) -> str:
    """Lark for a schema, or one of the texts, as text or as a control token, and then anything."""
    begins = [json.dumps(text) for text in constraint.unless]
    begins += [
        f"<[{controls[name]}]>" for text in constraint.unless if (name := text.encode()) in controls
    ]
    others = f" | <[{','.join(map(str, controls.values()))}]>" if controls else ""
    form = json.dumps({**schema, "x-guidance": _OVERRIDES})
    return (
        f"start: form | other\nform: %json {form}\nother: ({' | '.join(begins)}) (TEXT{others})*\n"
        "TEXT: /(.|\\n)+/\n"
    )


def _json_grammar(schema: Any) -> str:
    """``oneOf`` is taken for ``anyOf``, and keywords that llguidance does not support are ignored, as Ollama does."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_OVERRIDES)


def _choice(choices: Any) -> str:
    if not isinstance(choices, list) or not choices or not all(isinstance(c, str) for c in choices):
        raise InvalidRequest("choices must be a list of at least one string")
    return "start: " + " | ".join(json.dumps(choice) for choice in choices)


def _from_gbnf(text: str) -> str:
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(text)
    except Exception as error:  # it raises bare Exceptions, too
        raise InvalidRequest(f"the GBNF grammar cannot be used: {_one_line(str(error))}") from None


_EXPLAINED = {
    "NoExtensionBias": "no answer can ever satisfy it",
    "Current row has": "too much may come in one place, as with hundreds of optional properties",
}
"""llguidance's reason -> our error's text."""


def _one_line(message: str) -> str:
    """An error of llguidance's, which quotes the grammar over several lines, as a part of one sentence."""
    found = next((text for mark, text in _EXPLAINED.items() if mark in message), None)
    return found or " ".join(message.split())[:300]
