"""Constraints over real llama.cpp: whatever a random model wants to say, it has the form that was asked for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ollamapy.engine.events import Finished, TextOut
from ollamapy.engine.grammar import MOST_TEXT, STACK, Grammars, NeedsLonger
from ollamapy.engine.llama import Model
from ollamapy.errors import InvalidRequest
from ollamapy.types import Constraint, Sampling
from tests.plans import plan
from tests.small_models import random_model

from .constraints import FORMATS, GREEDY, SCHEMAS, SHORT, Asker, answer, schema

pytestmark = pytest.mark.llama
WARM = Sampling(temperature=1, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = random_model(tmp_path_factory.mktemp("models") / "random.gguf")
    model = Model(plan(path, n_ctx=512, n_slots=4, n_batch=64, threads=1))
    yield model
    model.close()


@pytest.fixture(scope="module")
def grammars(model: Model) -> Grammars:
    return Grammars(model.token_table)


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(model: Model, grammars: Grammars, name: str, sampling: Sampling) -> None:
    said = answer(model, grammars, schema(SCHEMAS[name]), sampling=sampling)
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], format_checker=FORMATS)
    validator.validate(json.loads(said))


OPEN = {
    "type": "object",
    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9},
    "maxProperties": 2,
}


@pytest.mark.parametrize(
    ("text", "stops_at"),
    [
        ('{"ba":1,"x":9}', None),
        ('{"ba":"x"}', '"x"}'),
        ('{"ba":10}', "0}"),
        ('{"a":1,"b":2,"c":3}', ',"c":3}'),
    ],
)
def test_additional_properties(
    grammars: Grammars, model: Model, text: str, stops_at: str | None
) -> None:
    assert goes(grammars, model, schema(OPEN), text) == stops_at


OTHERS = [
    (Constraint("regex", "(ba|ke){3,5}!"), r"(ba|ke){3,5}!"),
    (Constraint("regex", r"\d{3}-\d{4}"), r"\d{3}-\d{4}"),
    (Constraint("regex", "é[äöü]{2}"), "é[äöü]{2}"),
    (Constraint("choice", '["yes", "no", "y\\"e\\\\s\\n", "naïve 👋"]'), '(?s)yes|no|y"e\\\\s\n|naïve 👋'),
    (Constraint("gbnf", 'root ::= "a" mid{2} "z"\nmid ::= [0-9] | "xy" # either\n'), "a([0-9]|xy){2}z"),
    (Constraint("gbnf", 'root ::= item{2,4} "."\nitem ::= ("ba" | "ke")'), r"(ba|ke){2,4}\."),
    (Constraint("lark", 'start: "ba" num\nnum: /[1-9]{2}/'), "ba[1-9]{2}"),
]  # fmt: skip


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize(("constraint", "pattern"), OTHERS)
def test_other_kinds(
    model: Model, grammars: Grammars, constraint: Constraint, pattern: str, sampling: Sampling
) -> None:
    assert re.fullmatch(pattern, answer(model, grammars, constraint, sampling=sampling))


JSON_GBNF = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""


def test_llama_cpps_own_json_grammar(grammars: Grammars, model: Model) -> None:
    assert goes(grammars, model, Constraint("gbnf", JSON_GBNF), '{"a": [1.5, true, "\\n"]}') is None


def goes(grammars: Grammars, model: Model, constraint: Constraint, text: str) -> str | None:
    """The rest of a text from the first token on that a grammar does not allow; None where it allows all."""
    matcher = grammars.compile(constraint)
    tokens = model.tokenize(text, add_special=False)
    words = [model.piece(token).decode() for token in tokens]
    if words and words[0] == " " and not text.startswith(" "):
        del words[0], tokens[0]  # SentencePiece's dummy prefix
    n = matcher._matcher.try_consume_tokens(tokens)
    return "".join(words[n:]) or None


@pytest.mark.parametrize(
    ("text", "stops_at"),
    [
        ('{"a":{"b":[1,-2.5e3,null]}}', None),
        ('{ "a" : 1 }', None),
        ('{\n  "a": 1\n}', None),
        ('{  "a": 1}', ' "a": 1}'),
        ('{\n\n"a": 1}', '\n"a": 1}'),
        ("[1]", "[1]"),
        ('"a"', '"a"'),
    ],
)
def test_json_is_an_object_with_little_space(
    grammars: Grammars, model: Model, text: str, stops_at: str | None
) -> None:
    assert goes(grammars, model, Constraint("json"), text) == stops_at


CITY = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}})


@pytest.mark.parametrize("form", [Constraint("json"), Constraint("schema", CITY)])
@pytest.mark.parametrize(
    ("text", "stops_at"),
    [
        ('{"a":1}', None),
        ('<tool_call>\n{"name": ', None),
        ("[C]any\nthing", None),
        ("<tool", None),
        ("<tool>", ">"),
        ("[x]", "x]"),
        ('{"a":1}<tool_call>', "<tool_call>"),
    ],
)
def test_an_answer_may_be_something_else_instead(
    grammars: Grammars, model: Model, form: Constraint, text: str, stops_at: str | None
) -> None:
    form = msgspec.structs.replace(form, unless=("<tool_call>", "[C]"))
    assert (goes(grammars, model, form, text) or "")[:1] == (stops_at or "")[:1]


def test_what_begins_the_something_else_may_be_a_control_token(model: Model) -> None:
    table = model.token_table()
    pieces = [*table.pieces, b"\xff[CALLS]", b"\xff[ARGS]"]
    calls, args = len(pieces) - 2, len(pieces) - 1
    grammars = Grammars(lambda: table._replace(pieces=pieces))
    form = Constraint("json", unless=("[CALLS]",))
    words = model.tokenize("now", add_special=False)
    assert grammars.compile(form)._matcher.try_consume_tokens(
        [calls, *words, args, *words]
    ) == 2 + 2 * len(words)
    assert grammars.compile(form)._matcher.try_consume_tokens([args]) == 0


def test_json_mode(model: Model, grammars: Grammars) -> None:
    """A random model hardly ever comes to an end: its end is as good as any other."""
    asker = Asker(model, grammars)
    for id in (1, 2, 3):
        asker.submit(id, Constraint("json"), sampling=Sampling(temperature=1, seed=id))
    asker.run()
    for id in (1, 2, 3):
        ending = asker.ending(id)
        assert isinstance(ending, Finished) and asker.text(id).startswith("{")
        if ending.reason == "stop":
            assert isinstance(json.loads(asker.text(id)), dict)


def test_objects_have_only_the_named_properties_unless_they_say_otherwise(
    grammars: Grammars, model: Model
) -> None:
    props = {"properties": {"a": {"type": "integer"}}}
    more = '{"a":1,"b":2}'

    def takes(value: Any) -> bool:
        return goes(grammars, model, schema(value), more) is None

    assert not takes({"type": "object", **props})
    assert takes({"type": "object", **props, "additionalProperties": True})
    assert takes({"type": "object", **props, "patternProperties": {"^b": {"type": "integer"}}})
    assert takes({"allOf": [props, {"properties": {"b": {"type": "integer"}}}]})
    assert goes(grammars, model, schema({"type": "array", "items": props}), f"[{more}]")


def test_an_answer_may_go_on_where_its_grammar_accepts(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    bias = ((model.eos, 1000.0),)
    asker.submit(1, Constraint("regex", "[a-z ]{4,}"), logit_bias=bias)
    asker.submit(2, Constraint("regex", "[a-z ]{4,}"), num_predict=20)
    asker.run()
    first, second = asker.ending(1), asker.ending(2)
    assert isinstance(first, Finished) and isinstance(second, Finished)
    assert first.reason == "stop" and len(asker.text(1)) >= 4
    assert second.reason == "length" and second.n_predicted == 20


BAD = [
    (Constraint("schema", "{"), "JSON schema is not valid JSON"),
    (Constraint("schema", "[]"), "must be an object"),
    (Constraint("schema", "false"), "allows no answer"),
    (schema({"type": "nonsense"}), "nonsense"),
    (schema({"$ref": "#/$defs/missing"}), "missing"),
    (schema({"type": "string", "pattern": "("}), r"\("),
    (schema({"type": "integer", "minimum": 5, "maximum": 4}), "JSON schema cannot be used"),
    (schema({"$ref": "#"}), "JSON schema cannot be used: no answer can ever satisfy it"),
    (
        schema({"type": "object", "properties": {f"p{i}": SHORT for i in range(1500)}}),
        "JSON schema cannot be used: too much may come in one place",
    ),
    (Constraint("regex", "("), "regular expression cannot be used"),
    (Constraint("regex", "(?=a)b"), "regular expression cannot be used"),
    (Constraint("choice", "[]"), "at least one"),
    (Constraint("choice", '["a", 1]'), "at least one"),
    (Constraint("choice", "a,b"), "list of choices is not valid JSON"),
    (Constraint("gbnf", "root ::= missing"), "missing"),
    (Constraint("gbnf", 'rule ::= "a"'), "root"),
    (Constraint("gbnf", "root ::= ("), "GBNF grammar cannot be used"),
    (Constraint("lark", "begin: /a/"), "Lark grammar cannot be used"),
    (Constraint("lark", "start: ("), "Lark grammar cannot be used"),
    (Constraint("regex", "a" * (MOST_TEXT + 1)), "characters, at most"),
]


@pytest.mark.parametrize(("constraint", "message"), BAD)
def test_what_is_no_constraint_is_named(
    grammars: Grammars, constraint: Constraint, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        grammars.compile(constraint)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def chain_of_terminals(n: int) -> str:
    rules = "\n".join(f'A{i}: "x" A{i + 1}' for i in range(n))
    return f'start: A0\n{rules}\nA{n}: "y"'


HOSTILE = [
    Constraint("regex", "(((a{1,1000}){1,1000}){1,1000}){1,1000}"),
    Constraint("regex", "(a?){20000}a{20000}"),
    Constraint("regex", "(" * 20_000 + "a" + ")" * 20_000),
    Constraint("regex", "(a|b)*a(a|b){25}"),
    Constraint("lark", "start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    Constraint("lark", chain_of_terminals(12_000)),
    Constraint("gbnf", "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
    Constraint("schema", '{"items":' * 20_000 + "{}" + "}" * 20_000),
    Constraint("schema", "[" * 100_000),
    schema({"enum": [f"value{i}" for i in range(12_000)]}),
    schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**6}),
    schema({"allOf": [{"type": "integer", "multipleOf": p} for p in (99_991, 99_989, 7_919)]}),
    schema({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
]


@pytest.mark.parametrize("constraint", HOSTILE, ids=lambda c: f"{c.kind} {c.text[:30]}")
def test_hostile_constraints_are_refused_or_obeyed(
    model: Model, grammars: Grammars, constraint: Constraint
) -> None:
    """Neither a crash nor a long time: the machine that runs this may be slow, so the bound is wide."""
    endings: list[object] = []

    def work() -> None:
        asker = Asker(model, grammars)
        try:
            asker.submit(1, constraint, num_predict=30)
        except InvalidRequest as error:
            endings.append(error)
            return
        asker.run()
        endings.append(asker.ending())

    before = threading.stack_size(STACK)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    threading.stack_size(before)
    thread.join(20)
    assert endings


def test_beside_free_ones_in_a_batch(model: Model, grammars: Grammars) -> None:
    def free(asker: Asker) -> None:
        asker.submit(2, None, "zu", num_predict=40)
        asker.submit(3, None, "or an", num_predict=40, sampling=WARM, logprobs=2)

    alone = Asker(model, grammars)
    free(alone)
    alone.run()
    wanted = {"type": "array", "items": {"type": "boolean"}, "minItems": 5, "maxItems": 5}
    one = answer(model, grammars, schema(wanted))
    both = Asker(model, grammars)
    both.submit(1, schema(wanted))
    free(both)
    both.submit(4, Constraint("regex", "[ab]{30}"), sampling=WARM)
    both.run()
    assert (both.text(1), both.text(2), both.text(3)) == (one, alone.text(2), alone.text(3))
    assert re.fullmatch("[ab]{30}", both.text(4))


def test_cancelled_in_the_middle(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    asker.submit(1, Constraint("regex", "[a-z ]{100,}"))
    asker.submit(2, Constraint("regex", "[a-c]{12}"))
    for _ in range(5):
        asker.engine.step(wait=False)
    asker.engine.cancel(1)
    asker.run()
    first = asker.ending(1)
    assert isinstance(first, Finished) and first.reason == "cancel"
    assert re.fullmatch("[a-c]{12}", asker.text(2))


def test_a_context_shift_in_the_middle(tmp_path: Path, grammars: Grammars) -> None:
    small = Model(
        plan(random_model(tmp_path / "random.gguf"), n_ctx=256, n_slots=1, n_batch=64, threads=1)
    )
    own = Grammars(small.token_table)
    said = answer(small, own, Constraint("regex", "([0-9]{3};){80}"), shift=True, num_predict=2000)
    assert re.fullmatch("([0-9]{3};){80}", said)
    small.close()


def test_stop_strings_and_logprobs_beside_a_constraint(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    asker.submit(1, Constraint("regex", "[a-z]{3}X[a-z]{90}"), stop=("X",), logprobs=3)
    asker.run()
    ending = asker.ending()
    assert isinstance(ending, Finished)
    assert (ending.reason, ending.stop_text) == ("stop", "X")
    assert re.fullmatch("[a-z]{3}", asker.text())
    first = next(e for e in asker.events if isinstance(e, TextOut)).logprobs[0]
    free = Asker(model, grammars)
    free.submit(1, None, num_predict=1, logprobs=3)
    free.run()
    unmasked = next(e for e in free.events if isinstance(e, TextOut)).logprobs[0]
    assert first.top_logprobs == unmasked.top_logprobs, "those before the mask"
    assert first.logprob <= unmasked.logprob


def test_it_begins_after_the_thinking(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    wanted = Constraint("choice", '["yes", "no"]')
    more: dict[str, Any] = {
        "think_end": "</think>",
        "think_budget": 7,
        "constraint_after": "</think>",
    }
    asker.submit(1, wanted, **more)
    asker.run()
    thought, _, said = asker.text().partition("</think>")
    assert said in ("yes", "no") and len(model.tokenize(thought)) >= 7
    free = Asker(model, grammars)
    free.submit(1, None, num_predict=7)
    free.run()
    assert thought.rstrip(" ") == free.text(), "before that it is free"


def test_no_budget_and_a_budget_of_nothing(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    asker.submit(1, None, think_end="</think>", think_budget=0, num_predict=30)
    asker.submit(2, None, think_end="</think>", num_predict=30)
    asker.run()
    assert asker.text(1).lstrip().startswith("</think>")
    assert "</think>" not in asker.text(2)


def test_what_one_token_says_of_both_belongs_to_the_grammar(grammars: Grammars) -> None:
    matcher = grammars.compile(schema({"type": "object", "properties": {}}))
    matcher.begin_with(b"{")
    matcher.fill()
    assert not matcher.finished
    matcher.begin_with(b"nonsense")
    matcher.begin_with(b"}")
    assert matcher.finished


def test_logit_bias(model: Model, grammars: Grammars) -> None:
    asker = Asker(model, grammars)
    asker.submit(1, None, num_predict=1)
    asker.run()
    (favourite,) = model.tokenize(asker.text(), add_special=False)[-1:]
    other = model.tokenize(" ke", add_special=False)[-1]
    asker = Asker(model, grammars)
    asker.submit(1, None, num_predict=5, logit_bias=((favourite, -1e30),))
    asker.submit(2, None, num_predict=5, logit_bias=((other, 1e30),), sampling=WARM)
    asker.run()
    assert model.piece(favourite).decode() not in asker.text(1)
    assert asker.text(2) == model.piece(other).decode() * 5


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1, seed=1, typical_p=0.5),
        Sampling(temperature=1, seed=1, typical_p=0.5, top_k=0),
        Sampling(temperature=2, seed=1, top_k=0, top_p=1, min_p=0),
        Sampling(temperature=1, seed=1, min_p=0.2, repeat_penalty=1.3),
        Sampling(temperature=0, frequency_penalty=2),
    ],
)
def test_every_sampler_bears_a_mask(model: Model, grammars: Grammars, sampling: Sampling) -> None:
    wanted = Constraint("regex", "(ba|ke|[0-9]){12}")
    assert re.fullmatch(wanted.text, answer(model, grammars, wanted, sampling=sampling))


LEAVES = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "null"},
        {"type": "integer", "minimum": -20, "maximum": 300},
        {"type": "string", "maxLength": 6},
        {"enum": ["a", 1, None]},
        {"const": "ba ke"},
        {"type": "string", "pattern": "^[a-f0-9]{4}$"},
    ]
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "long name", "ä"])
    objects = st.dictionaries(names, inner, max_size=3).flatmap(
        lambda properties: (
            st.lists(st.sampled_from(sorted(properties)), unique=True).map(
                lambda required: {"type": "object", "properties": properties, "required": required}
            )
            if properties
            else st.just({"type": "object", "additionalProperties": False})
        )
    )
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    return objects | arrays | st.lists(inner, min_size=1, max_size=3).map(lambda s: {"anyOf": s})


@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=st.recursive(LEAVES, larger, max_leaves=6), seed=st.integers(0, 99))
def test_answers_validate_against_random_schemas(
    model: Model, grammars: Grammars, wanted: Any, seed: int
) -> None:
    sampling = Sampling(temperature=1, seed=seed)
    said = answer(model, grammars, schema(wanted), sampling=sampling, num_predict=450)
    jsonschema.Draft202012Validator(wanted).validate(json.loads(said))


@examples(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(choices=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
def test_any_texts_can_be_choices(model: Model, grammars: Grammars, choices: list[str]) -> None:
    asker = Asker(model, grammars)
    asker.submit(1, Constraint("choice", json.dumps(choices)))
    asker.run()
    assert asker.text() in choices


DOUBLING = "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(60))


def test_an_extreme_constraint_needs_longer_and_its_refusal_is_remembered(model: Model) -> None:
    grammars = Grammars(model.token_table)
    extreme = Constraint("gbnf", DOUBLING + 'r60 ::= "a"\n')
    with pytest.raises(NeedsLonger):
        grammars.compile(extreme, quick=True)
    with pytest.raises(InvalidRequest, match="GBNF grammar cannot be used: .*too big") as first:
        grammars.compile(extreme)
    with pytest.raises(InvalidRequest) as again:
        grammars.compile(extreme, quick=True)
    assert str(again.value) == str(first.value)


def test_so_many_refusals_are_remembered(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollamapy.engine.grammar.MOST_REFUSALS", 2)
    grammars = Grammars(model.token_table)
    wrong = [Constraint("regex", "(" * n) for n in (1, 2, 3)]
    for constraint in wrong:
        with pytest.raises(InvalidRequest):
            grammars.compile(constraint)
    assert list(grammars._refused) == wrong[1:]


def test_json_is_kept_ready_from_the_first_constraint_on(model: Model) -> None:
    grammars = Grammars(model.token_table)
    json_object = Constraint("json")
    assert not grammars.is_ready(json_object)
    grammars.compile(Constraint("choice", '["yes"]'), quick=True)
    assert grammars.is_ready(json_object) and not grammars.is_ready(Constraint("schema", "{}"))
    first, second = grammars.compile(json_object), grammars.compile(json_object)
    tokens = model.tokenize("{", add_special=False)[-1:]
    first.take(tokens[0])
    second.take(tokens[0])  # it begins at the beginning


def test_the_part_that_cannot_be_used_is_named(grammars: Grammars) -> None:
    good, wrong = json.dumps({"type": "object"}), json.dumps({"type": "no such type"})
    schema = {"type": "object", "properties": {"x": {"anyOf": [{}, json.loads(wrong)]}}}
    parts = (("tool good", good), ("tool odd", wrong))
    with pytest.raises(InvalidRequest, match="schema of tool odd cannot be used: .*no such type"):
        grammars.compile(Constraint("schema", json.dumps(schema), parts=parts))


def test_a_schema_that_nests_130_deep_is_refused(grammars: Grammars) -> None:
    schema: dict[str, Any] = {"type": "boolean"}
    for _ in range(130):
        schema = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    with pytest.raises(InvalidRequest, match="nests"):
        grammars.compile(Constraint("schema", json.dumps(schema)))
