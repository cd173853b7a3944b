"""What typed lines mean."""

from __future__ import annotations

import pytest

from ollamapy.cli import slash
from ollamapy.cli.help import HELP
from ollamapy.cli.slash import (
    Clear,
    Command,
    Copy,
    Help,
    Leave,
    ListModels,
    Load,
    Save,
    Say,
    SetFormat,
    SetParameter,
    SetSwitch,
    SetSystem,
    SetThink,
    Show,
    Wrong,
)

PARAMETER_HELP = Help("parameters")
NO_FORMAT = Wrong("Invalid or missing format. For 'json' mode use '/set format json'")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        # Messages
        ("Hi there", Say("Hi there")),
        ("", Say("")),
        ("   ", Say("")),
        (" /list", Say(" /list")),
        ("a /list", Say("a /list")),
        ('"""one line"""', Say("one line")),
        ('"""/bye"""', Say("/bye")),
        ('"""\nfirst\n\nlast\n"""', Say("first\n\nlast")),
        ('"""a\n  b"""  ', Say("a\n  b")),
        ('""""""', Say("")),
        ('a """ b', Say('a """ b')),
        ("/* a comment */\nint main;", Say("/* a comment */\nint main;")),
        # Whole words
        ("/bye", Leave()),
        ("/exit ", Leave()),
        ("/clear", Clear()),
        ("/list", ListModels("")),
        ("/list tiny", ListModels("tiny")),
        ("/listing", Wrong("Unknown command '/listing', did you mean '/list'? Type /? for help")),
        ("/byebye", Wrong("Unknown command '/byebye', did you mean '/bye'? Type /? for help")),
        ("/", Wrong("Unknown command '/'. Type /? for help")),
        ("/LIST", Wrong("Unknown command '/LIST', did you mean '/list'? Type /? for help")),
        ("/saved x", Wrong("Unknown command '/saved', did you mean '/save'? Type /? for help")),
        ("/usr/bin/env is what?", Wrong("Unknown command '/usr/bin/env'. Type /? for help")),
        # Help
        ("/?", Help("")),
        ("/help", Help("")),
        ("/? set", Help("set")),
        ("/? /set", Help("set")),
        ("/help /show", Help("show")),
        ("/? shortcuts", Help("shortcuts")),
        ("/? what", Help("")),
        # Models
        ("/load tiny:latest", Load("tiny:latest")),
        ("/load", Wrong("Usage:\n  /load <modelname>", names=True)),
        ("/load a b", Wrong("Usage:\n  /load <modelname>", names=True)),
        ("/save mine:1", Save("mine:1")),
        ("/save", Wrong("Usage:\n  /save <modelname>")),
        ("/save a b", Wrong("Usage:\n  /save <modelname>")),
        ("/show", Help("show")),
        ("/show info", Show("info")),
        ("/show template", Show("template")),
        (
            "/show infos",
            Wrong("Unknown command '/show infos', did you mean '/show info'? Type /? for help"),
        ),
        ("/set markdown", SetSwitch("markdown", True, "markdown")),
        ("/set markdown off", SetSwitch("markdown", False, "nomarkdown")),
        ("/set markdown maybe", Wrong("Usage:\n  /set markdown [on|off]")),
        ("/copy", Copy()),
        ("/show x", Wrong("Unknown command '/show x'. Type /? for help")),
        # Settings
        ("/set", Help("set")),
        ("/set verbose", SetSwitch("verbose", True, "verbose")),
        ("/set quiet", SetSwitch("verbose", False, "quiet")),
        ("/set nohistory", SetSwitch("history", False, "nohistory")),
        ("/set wordwrap", SetSwitch("wordwrap", True, "wordwrap")),
        ("/set format json", SetFormat("json")),
        ("/set format  my schema.json ", SetFormat("my schema.json")),
        ('/set format {"type": "object"}', SetFormat('{"type": "object"}')),
        ("/set format", NO_FORMAT),
        ("/set noformat", SetFormat("")),
        ("/set think", SetThink(True)),
        ("/set think high", SetThink(True, "high")),
        ("/set think hard", Wrong("Usage:\n  /set think [high|medium|low|max]")),
        ("/set nothink", SetThink(False)),
        ("/set nothink x", Wrong("Unknown command '/set nothink'. Type /? for help")),
        ("/set system Be  kind.", SetSystem("Be  kind.")),
        ('/set system "Be kind."', SetSystem('"Be kind."')),
        ('/set system """Be\nkind."""', SetSystem("Be\nkind.")),
        ('/set  system  """\nBe kind.\n"""', SetSystem("Be kind.")),
        ('/set system """"""', SetSystem("")),
        # Parameters
        ("/set parameter", PARAMETER_HELP),
        ("/set parameter seed", PARAMETER_HELP),
        ("/set parameter seed 7", SetParameter("seed", 7, "7")),
        ("/set parameter temperature 0", SetParameter("temperature", 0.0, "0")),
        ("/set parameter temperature 1e-1", SetParameter("temperature", 0.1, "1e-1")),
        ("/set parameter use_mmap f", SetParameter("use_mmap", False, "f")),
        ("/set parameter stop a b", SetParameter("stop", ("a", "b"), "a, b")),
        ('/set parameter stop "a b" c', SetParameter("stop", ("a b", "c"), "a b, c")),
        (r'/set parameter stop "\n\n"', SetParameter("stop", ("\n\n",), "\n\n")),
        ('/set parameter stop "a', SetParameter("stop", ('"a',), '"a')),
        ("/set parameter nope 1", Wrong("Couldn't set parameter: \"unknown parameter 'nope'\"")),
        (
            "/set parameter Seed 1",
            Wrong("Couldn't set parameter: \"unknown parameter 'Seed', did you mean 'seed'?\""),
        ),
    ],
)
def test_a_line_means(text: str, command: Command) -> None:
    assert not slash.is_unfinished(text)
    assert slash.parse(text) == command


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("seed x", "invalid int value [x]"),
        ("seed 1.5", "invalid int value [1.5]"),
        ("seed 1 2", "invalid int value [1 2]"),
        ("seed 1_000", "invalid int value [1_000]"),
        ("seed 99999999999999999999", "invalid int value [99999999999999999999]"),
        ("temperature hot", "invalid float value [hot]"),
        ("use_mmap yes", "invalid bool value [yes]"),
    ],
)
def test_a_parameter_of_the_wrong_type(line: str, error: str) -> None:
    assert slash.parse(f"/set parameter {line}") == Wrong(f'Couldn\'t set parameter: "{error}"')


@pytest.mark.parametrize("value", ["nan", "1e300"])
def test_a_number_that_is_none(value: str) -> None:
    command = slash.parse(f"/set parameter top_p {value}")
    assert isinstance(command, Wrong) and "top_p" in command.message


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ('"""', True),
        ('"""a', True),
        ('"""a\n', True),
        ('"""a\nb""" c', True),
        ('"""a\nb"""', False),
        ('"""a"""\n', False),
        ('""""', True),
        ('a """', False),
        ('/set system """', True),
        ('/set system """a\nb', True),
        ('/set system """a\nb"""', False),
        ('/set parameter stop """', False),
        ("", False),
    ],
)
def test_what_waits_for_its_end(text: str, unfinished: bool) -> None:
    assert slash.is_unfinished(text) == unfinished


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("/l", ["/load", "/list"]),
        ("/sh", ["/show"]),
        (
            "/",
            [
                "/set",
                "/show",
                "/load",
                "/save",
                "/list",
                "/copy",
                "/clear",
                "/retry",
                "/edit",
                "/undo",
                "/continue",
                "/file",
                "/compare",
                "/chats",
                "/resume",
                "/branch",
                "/title",
                "/help",
                "/?",
                "/bye",
                "/exit",
            ],
        ),
        ("/set no", ["noformat", "nothink", "nohistory", "nowordwrap"]),
        ("/set format ", ["json"]),
        ("/set think m", ["medium", "max"]),
        ("/set parameter top", ["top_k", "top_p"]),
        ("/set parameter top_p ", []),
        ("/show ", ["info", "license", "modelfile", "parameters", "system", "template"]),
        ("/load ti", ["tiny:1", "tinystories:latest"]),
        ("/list  other", ["other:latest"]),
        ("/? s", ["set", "show", "shortcuts"]),
        ("/bye ", []),
        ("list", []),
        ("/load a\n", []),
    ],
)
def test_completion(before: str, words: list[str]) -> None:
    models = ["tiny:1", "tinystories:latest", "other:latest"]
    assert slash.candidates(before, lambda: models) == words


def test_models_are_asked_for_only_where_they_may_stand() -> None:
    asked = []

    def models() -> list[str]:
        asked.append(1)
        return []

    for before in ("/", "/set ", "/set parameter ", "hello ", "/load a b"):
        slash.candidates(before, models)
    assert not asked


def test_help_fits_forty_columns_and_names_every_command() -> None:
    for text in HELP.values():
        assert max(map(len, text.splitlines())) <= 40
    for command in slash.candidates("/", list):
        assert any(command in HELP[topic] for topic in ("", "chats"))
    for word in slash.candidates("/set ", list):
        assert f"/set {word}" in HELP["set"]
    for part in slash.PARTS:
        assert f"/show {part}" in HELP["show"]
    for name in slash.candidates("/set parameter ", list):
        assert name in HELP["parameters"]


@pytest.mark.parametrize(
    ("value", "printed"),
    [(7, "7"), (0.7, "0.7"), (False, "false"), (("a b", "\n"), r'"a b" "\n"')],
)
def test_a_value_is_printed(value: object, printed: str) -> None:
    assert slash.print_value(value) == printed
