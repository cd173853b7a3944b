"""Modelfiles: every recorded answer of Ollama's own parser, what must hold for any text, and how values are typed."""

from __future__ import annotations

import codecs
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidModelfile
from ollamapy.formats.modelfile import (
    LIMIT,
    MOST_INSTRUCTIONS,
    Instruction,
    Modelfile,
    local_path,
    parse,
    parse_parameter,
    print_modelfile,
    quote,
)
from ollamapy.types import OPTION_KINDS, Message

LINES = (Path(__file__).parents[1] / "data/modelfiles.jsonl").read_text(encoding="utf-8")
RECORDED = [json.loads(line) for line in LINES.split("\n") if line]
MB = 1 << 20


def commands(modelfile: Modelfile) -> list[list[str]]:
    """As the record has them: FROM is "model", a parameter's name stands for PARAMETER, a role before its text."""

    def command(each: Instruction) -> list[str]:
        if each.word == "MESSAGE":
            return ["message", f"{each.name}: {each.value}"]
        name = {"FROM": "model", "PARAMETER": each.name}.get(each.word, each.word.lower())
        return [name, each.value]

    return [command(each) for each in modelfile.instructions]


def refused(source: bytes | str) -> InvalidModelfile:
    with pytest.raises(InvalidModelfile) as caught:
        parse(source)
    assert "\n" not in str(caught.value) and caught.value.status == 400
    return caught.value


def one(text: str) -> Instruction:
    """The instruction before a last FROM."""
    return parse(f"{text}\nFROM x").instructions[0]


# Against the record


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: ascii(row["in"])[:60])
def test_agrees_with_ollama(row: dict[str, Any]) -> None:
    if "error" in row["out"]:
        refused(row["in"])
        return
    modelfile = parse(row["in"])
    assert commands(modelfile) == row["out"]["commands"]
    assert parse(row["in"].encode()) == modelfile
    printed = print_modelfile(modelfile)
    assert parse(printed) == modelfile
    if printed != row["out"]["printed"]:  # Ollama's does not read back: quotes or outer blanks lost
        try:
            assert parse(row["out"]["printed"]) != modelfile
        except InvalidModelfile:
            pass


def test_most_is_printed_as_ollama_prints_it() -> None:
    accepted = [row for row in RECORDED if "printed" in row["out"]]
    same = [r for r in accepted if print_modelfile(parse(r["in"])) == r["out"]["printed"]]
    assert (len(accepted), len(same)) == (176, 149)


# What must hold for any text

PIECES = st.sampled_from(
    ['"', '""', '"""', " ", "\t", "\n", "\r", "\r\n", "#", "'", "\\", "a", "é", "\u200b", "\xa0", "\0", "\u3000", "FROM x\n",
     "SYSTEM ", "MESSAGE user ", "PARAMETER stop ", "PARAMETER ", "from", "<|end|>", "\ufeff", "\ud800", "😀"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@given(TEXTS | st.text())
def test_what_is_printed_parses_back(text: str) -> None:
    for source in (text, f"FROM x\n{text}", f"FROM x\nSYSTEM {text}", f'FROM x\nSYSTEM """{text}'):
        try:
            modelfile = parse(source)
        except InvalidModelfile as error:
            assert "\n" not in str(error)
            continue
        printed = print_modelfile(modelfile)
        assert parse(printed) == modelfile and print_modelfile(parse(printed)) == printed


@given(TEXTS | st.text())
def test_a_printed_value_never_ends_early(value: str) -> None:
    modelfile = Modelfile((Instruction("FROM", "x"), Instruction("SYSTEM", value)))
    again = parse(print_modelfile(modelfile))
    assert [each.word for each in again.instructions] == ["FROM", "SYSTEM"]
    read = again.instructions[1].value
    if '"' not in value and all(each.isprintable() or each in "\t\r\n" for each in value):
        assert read == value


@given(st.binary() | st.binary().map(lambda tail: b"FROM x\nSYSTEM " + tail))
def test_any_bytes_get_an_answer(source: bytes) -> None:
    for mark in (b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        try:
            assert parse(mark + source).values("FROM")
        except InvalidModelfile as error:
            assert str(error)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("a b", "a b"),
        ('say "hi"', 'say "hi"'),
        ("", ""),
        ("two\nlines", '"two\nlines"'),
        (" spaced ", '" spaced "'),
        ('two\n"lines"', '"""two\n"lines""""'),
        # From here on Ollama's form does not read back
        ('"quoted"', '""""quoted""""'),
        ('"', '"""""""'),
        ("\ttab", '"\ttab"'),
        ("return\rhere", '"return\rhere"'),
        ('"""three', '""""""three"""'),
        # No form holds these
        ("joined\u200bwords", "joinedwords"),
        ('a"""\n"\nSYSTEM b', '"""a\'\'\'\n"\nSYSTEM b"""'),
    ],
)
def test_how_a_value_is_quoted(value: str, printed: str) -> None:
    assert quote(value) == printed


# Encodings


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_the_byte_order_mark_decides(mark: bytes, encoding: str) -> None:
    text = "FROM x\r\nSYSTEM grüß 😀"
    assert commands(parse(mark + text.encode(encoding))) == [["model", "x"], ["system", "grüß 😀"]]


def test_a_str_may_begin_with_a_mark() -> None:
    assert parse("\ufeffFROM x").values("FROM") == ["x"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert parse(b"FROM x\nSYSTEM a\xff\xc3b").last("SYSTEM") == "a\ufffd\ufffdb"


def test_characters_that_do_not_print_are_dropped() -> None:
    system = one('SYSTEM a\xa0b\u200b\0 \u200d"c"')
    assert (system.value, system.dropped) == ('ab "c"', 4)
    assert one('SYSTEM \xa0"a"\u200b').value == "a"
    assert one('\u200bSYSTEM "\u200b""a"\0"\0" ').value == "a"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("FROM x".encode("utf-16-le"), "save it as UTF-8"),
        ("FROM x".encode("utf-16-be"), "save it as UTF-8"),
        (b"GGUF\3\0\0\0", "FROM ./model.gguf"),
    ],
)
def test_what_is_no_text_is_named(source: bytes, says: str) -> None:
    assert says in str(refused(source))


# Places and ways out


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        # In Ollama the line is one more where the newline itself is the offence, and doubles with "\r\n"
        ("FROM x\nNOSUCH y", 2, 1, 'or "requires", not "NOSUCH"'),
        ("FROM x\r\n\r\n  SISTEM y", 3, 3, "did you mean SYSTEM?"),
        ("FROM x\rSYSTEM\r", 2, 7, 'SYSTEM needs a value on its line, "" is an empty one'),
        ("FROM x\n SYSTEM", 2, 8, "SYSTEM needs a value on its line"),
        ("FROM x\nSYSTEM: y", 2, 7, 'unexpected ":" after SYSTEM, a space and a value must follow'),
        ("FROM x\nSYSTEM a\nYou are", 3, 1, 'a value of several lines stands between """ and """'),
        ("FROM x\nPARAMETER stop\n", 2, 15, "PARAMETER stop needs a value"),
        ("FROM x\nPARAMETER a-b 1", 2, 12, 'unexpected "-" after PARAMETER a'),
        ("FROM x\nMESSAGE  user y", 2, 9, '"assistant", after one space'),
        ("FROM x\nMESSAGE User y", 2, 9, '"assistant", not "User"'),
        ("FROM x\n\nSYSTEM  \"a\nFROM b", 3, 9, 'has no " at the end of a line, put one where'),
        ('FROM x\nSYSTEM """a""" b', 2, 8, 'has no """ at the end of a line'),
        ('FROM x\nSYSTEM """a\n\nb""" c\n', 2, 8, 'put what follows the """ 2 lines below before it'),
        ('FROM x\nSYSTEM "a" b\n', 2, 8, 'put what follows the " on the same line before it'),
    ],
)  # fmt: skip
def test_an_error_has_a_place_and_a_way_out(text: str, line: int, column: int, says: str) -> None:
    error = refused(text)
    assert (error.line, error.column) == (line, column)
    assert says in error.reason
    assert str(error) == f"(line {line}): {error.reason} (column {column})"


def test_no_from_is_about_the_whole_file() -> None:
    error = refused("SYSTEM y")
    assert (error.line, error.column) == (0, 0) and str(error).startswith("no FROM line, add one")


def test_an_error_shows_little_of_the_file() -> None:
    assert len(str(refused("FROM x\n" + "é" * 100_000 + " y"))) < 500
    assert len(str(refused("FROM x\nMESSAGE " + "a" * 100_000 + " y"))) < 500


def test_an_instruction_knows_its_place() -> None:
    modelfile = parse('# c\r\nFROM x\r\n\r\n\tSYSTEM  """a\r\nb"""\rparameter stop é')
    places = [(e.word, e.line, e.column, e.value_column, e.quote) for e in modelfile.instructions]
    assert places == [
        ("FROM", 2, 1, 6, ""),
        ("SYSTEM", 4, 2, 10, '"""'),
        ("PARAMETER", 6, 1, 16, ""),
    ]


# Limits


def test_the_longest_modelfile() -> None:
    longest = b"FROM " + b"x" * (LIMIT - 5)
    assert len(parse(longest).values("FROM")[0]) == LIMIT - 5
    assert "at most 16 MiB" in str(refused(longest + b"x"))


def test_the_most_instructions() -> None:
    error = refused("FROM x\n" * (MOST_INSTRUCTIONS + 1))
    assert (error.line, error.column) == (MOST_INSTRUCTIONS + 1, 1)


@pytest.mark.parametrize(
    "source",
    [
        os.urandom(10 * MB),
        b'FROM x\nSYSTEM """' + os.urandom(10 * MB) + b'\n"""',
        ('FROM x\nSYSTEM """' + "grüß\n" * 2 * MB + '"""').encode("utf-16"),
        b"#\n" * 5 * MB + b"FROM x",
        b"FROM x\nSYSTEM " + b'"' * 10 * MB + b"x",
        b'FROM x\nSYSTEM """' + b'"" \n' * 2 * MB,
        b'FROM x\nSYSTEM """' + b'"\0"\0"\0  x' * MB,
        b"FROM x\n" * MOST_INSTRUCTIONS,
        b"F" * 10 * MB,
    ],
    ids=["random", "random in a value", "utf-16", "comments", "marks", "lines", "hidden", "many", "word"],
)  # fmt: skip
def test_large_files_take_seconds_at_most(source: bytes) -> None:
    started = time.process_time()
    try:
        print_modelfile(parse(source))
    except InvalidModelfile as error:
        assert len(str(error)) < 500
    assert time.process_time() - started < 30  # measured: 0.1 to 1.3


# Meaning


def test_what_adds_up_and_where_the_last_one_counts() -> None:
    modelfile = parse(
        "FROM a\nFROM b\nSYSTEM one\nSYSTEM two\nLICENSE MIT\nLICENSE BSD\nMESSAGE user hi\nMESSAGE assistant ho: hum\n"
        "PARAMETER stop x\nPARAMETER num_ctx 1\nPARAMETER stop y\nPARAMETER num_ctx 2\nPARAMETER mirostat 1"
    )
    assert modelfile.values("FROM") == ["a", "b"]
    assert modelfile.values("LICENSE") == ["MIT", "BSD"]
    assert (modelfile.last("SYSTEM"), modelfile.last("TEMPLATE")) == ("two", None)
    assert modelfile.messages == (Message("user", "hi"), Message("assistant", "ho: hum"))
    assert modelfile.parameters() == ({"stop": ("x", "y"), "num_ctx": 2}, ["mirostat"])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_ctx", "4096", 4096),
        ("num_ctx", "+007", 7),
        ("seed", "-9223372036854775808", -(2**63)),
        ("temperature", "0.7", 0.7),
        ("temperature", "0.123456789", 0.12345679),
        ("temperature", "1", 1.0),
        ("temperature", "-.5e-1", -0.05),
        ("temperature", "5.", 5.0),
        ("temperature", "1_0.5", 10.5),
        ("temperature", "0x1p-2", 0.25),
        ("temperature", "0x_1.8P+0", 1.5),
        ("temperature", "3.4028234663852886e38", 3.4028235e38),
        ("temperature", "1e-60", 0.0),
        ("use_mmap", "T", True),
        ("use_mmap", "False", False),
        ("stop", '"', ('"',)),
        ("stop", "", ("",)),
        ("draft_num_predict", "4", 4),
    ],
)
def test_parameters_are_typed_as_go_does(name: str, text: str, value: object) -> None:
    found = parse_parameter(name, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        *[("num_ctx", t, f"invalid int value [{t}] for num_ctx")
          for t in ("1.0", "1_0", "", " 1", "0x10", "9223372036854775808", "-", "1e3")],
        ("num_ctx", "٣", "invalid int value [\\u0663]"),
        *[("temperature", t, f"invalid float value [{t}] for temperature")
          for t in ("warm", "", ".", "1__0", "_1", "0x1", "inf", "nan", "3.5e38", "1e", "+-1", "1 ")],
        *[("use_mmap", t, f"invalid bool value [{t}]") for t in ("yes", "tRUE", "", "2")],
        ("Temperature", "1", "unknown parameter 'Temperature', did you mean 'temperature'?"),
        ("numa", "1", "unknown parameter 'numa'"),
        ("", "1", "unknown parameter '', one of: num_ctx,"),
    ],
)  # fmt: skip
def test_a_parameter_of_another_kind(name: str, text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_parameter(name, text)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    "digits", ["1" * 10 * MB, pytest.param("0" * 10 * MB + "x", marks=pytest.mark.long), "." * MB]
)
def test_endless_numbers(digits: str) -> None:
    for name in ("num_ctx", "temperature"):
        with pytest.raises(ValueError):
            parse_parameter(name, digits)


def test_every_option_is_a_parameter() -> None:
    text = {"integer": "1", "float32": "0.5", "boolean": "true", "array": "x", "string": "error"}
    assert all(parse_parameter(name, text[kind]) for name, kind in OPTION_KINDS.items())


def test_a_bad_parameter_has_its_place() -> None:
    with pytest.raises(InvalidModelfile) as caught:
        parse("FROM x\n\n PARAMETER top_k many").parameters()
    assert (caught.value.line, caught.value.column) == (3, 2)


def test_two_spaces_after_parameter_are_tolerated() -> None:
    """Ollama takes all of it as the value of a parameter without a name, and then refuses that."""
    modelfile = parse('FROM x\nPARAMETER  num_ctx   4096 \nPARAMETER \t stop " a "')
    assert commands(modelfile)[1] == ["", "num_ctx   4096"]
    assert modelfile.parameters() == ({"num_ctx": 4096, "stop": (" a ",)}, [])
    for text in ('PARAMETER  "num_ctx 1"', "PARAMETER  num_ctx", 'PARAMETER  stop "a'):
        with pytest.raises(InvalidModelfile):
            parse(f"FROM x\n{text}").parameters()


def test_a_parameter_is_no_other_instruction() -> None:
    """In Ollama `PARAMETER system x` is a SYSTEM and `PARAMETER model x` a FROM."""
    assert one("PARAMETER system x").word == "PARAMETER"
    refused("PARAMETER model x")
    with pytest.raises(InvalidModelfile):
        parse("FROM x\nPARAMETER system x").parameters()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.14.0", "0.14.0"),
        ("v1", "1"),
        ("1.2", "1.2"),
        ("1.2.3-rc.1+b.01", "1.2.3-rc.1+b.01"),
        ("1.2.3--", "1.2.3--"),
        ("01.2.3", None),
        ("1.2.3-01", None),
        ("1.2-rc", None),
        ("1.2.3.4", None),
        ("1.2.3-", None),
        ("latest", None),
        ('""', None),
        ("1.2.3-" + "1." * 5 * MB, None),
    ],
)
def test_requires_is_a_semantic_version(text: str, version: str | None) -> None:
    modelfile = parse(f"FROM x\nREQUIRES nonsense\nREQUIRES {text}")
    if version is not None:
        assert modelfile.requires() == version
        return
    with pytest.raises(InvalidModelfile, match="requires must be a valid semver"):
        modelfile.requires()


def test_requires_may_be_missing() -> None:
    assert parse("FROM x").requires() is None


def test_where_a_path_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("./m.gguf", tmp_path) == tmp_path / "m.gguf"
    assert local_path("/m.gguf", tmp_path) == Path("/m.gguf")
    assert local_path("~/m.gguf", tmp_path) == Path("/home/me/m.gguf")
    assert local_path("~nosuchuser/m", tmp_path) == tmp_path / "~nosuchuser/m"


def test_the_example_of_this_project_is_one() -> None:
    modelfile = parse((Path(__file__).parents[2] / "Modelfile.example").read_bytes())
    typed, deprecated = modelfile.parameters()
    assert (
        set(OPTION_KINDS) - set(typed)
        == {"main_gpu", "draft_num_predict", "context_policy", "deterministic"}
        and deprecated == []
    )
    assert modelfile.requires() == "0.14.0"
