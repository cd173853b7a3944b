"""Go templates: what Ollama's own code made of 650 of them, what Go's own text/template makes of the
rows below (each taken from Go 1.26), and what a stranger's template may not do.

Two of Ollama's oddities are kept, as a template that fails there is nobody's working template: the
last turn of a template without .Messages knows neither Ollama's functions nor inner templates; and a
.Response in a branch that has an else (a crash there) is an error here.
"""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.chat import golang
from ollamapy.chat.golang import GoTemplate, parse
from ollamapy.errors import TemplateError

Turn = dict[str, Any]

DATA = Path(__file__).parents[1] / "data" / "templates.jsonl"
RECORDED = [json.loads(line) for line in DATA.read_text().splitlines()]


def user(content: str) -> Turn:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> Turn:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> Turn:
    return {"role": "system", "content": content}


# ---- the record ----------------------------------------------------------------------------------


def execute(template: GoTemplate, given: dict[str, Any]) -> str:
    return template.execute(
        given["messages"],
        given.get("tools"),
        think=given.get("think"),
        think_level=given.get("level", ""),
        prompt=given.get("prompt", ""),
        suffix=given.get("suffix", ""),
    )


@pytest.mark.parametrize("row", RECORDED, ids=range(len(RECORDED)))
def test_record(row: dict[str, Any]) -> None:
    given, expected = row["in"], row["out"]
    if "parse_error" in expected:
        with pytest.raises(TemplateError):
            parse(given["template"])
        return
    template = parse(given["template"])
    assert list(template.variables) == expected["vars"]
    if "error" in expected:
        with pytest.raises(TemplateError):
            execute(template, given)
    else:
        assert execute(template, given) == expected["text"]


# ---- Go ------------------------------------------------------------------------------------------

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather <now>",
            "parameters": {
                "type": "object",
                "required": ["city"],
                "properties": {
                    "unit": {"type": ["string", "null"], "enum": ["c", 1, None]},
                    "city": {"type": "string", "description": "its name"},
                    "where": {"anyOf": [{"type": "integer"}, {"type": "array"}]},
                    "deep": {"type": "object", "properties": {"b": {"type": "number"}, "a": {}}},
                },
            },
        },
    }
]
MESSAGES: list[Turn] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Grüße €"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c1",
                "function": {
                    "name": "get_weather",
                    "arguments": {
                        "city": "Paris",
                        "days": 2,
                        "x": None,
                        "y": [1, "a", None],
                        "big": 1e21,
                    },
                },
            }
        ],
    },
    {"role": "tool", "tool_name": "get_weather", "content": "11"},
]
PRELUDE = (
    "{{ if .Messages }}{{ end }}"
    "{{ $t := index .Tools 0 }}"
    "{{ $p := $t.Function.Parameters.Properties }}"
    "{{ $a := (index (index .Messages 2).ToolCalls 0).Function.Arguments }}"
    "{{ $u := index .Messages 1 }}"
)
"""$t a tool, $p its parameters, $a the arguments of a call, $u a message."""


def render(template: str) -> str:
    return parse(PRELUDE + template).execute(MESSAGES, TOOLS)


LITERALS = [
    (
        "{{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 017 }} {{ 1_000 }} {{ -7 }} {{ +3 }}",
        "31 3 15 15 1000 -7 3",
    ),
    (
        "{{ 1.5 }} {{ 1e3 }} {{ 1e6 }} {{ 1e20 }} {{ 1e-5 }} {{ 0.0001 }} {{ .5 }} {{ 5. }} {{ 0x1p4 }}",
        "1.5 1000 1e+06 1e+20 1e-05 0.0001 0.5 5 16",
    ),
    ("{{ 'a' }} {{ '\\n' }} {{ 'é' }} {{ '\\x41' }} {{ '\\'' }}", "97 10 233 65 39"),
    ("{{ 1i }} {{ 1+2i }} {{ 1.5-2e3i }}", "(0+1i) (1+2i) (1.5-2000i)"),
    ('{{ "a\\tb" }}{{ "\\x41\\101\\u00e9\\U0001F600" }}{{ "\\xe2\\x82\\xac" }}', "a\tbAAé😀€"),
    ('{{ `raw\\n` }}{{ "" }}{{ "\\"" }}', 'raw\\n"'),
    ("{{ true }}{{ false }}", "truefalse"),
    (
        "{{ 9223372036854775807 }} {{ -9223372036854775808 }}",
        "9223372036854775807 -9223372036854775808",
    ),
]

PRINTING = [
    ('{{ print 1 2 "a" "b" 3 4 }}', "1 2ab3 4"),
    ('{{ println 1 "a" nil }}', "1 a <nil>\n"),
    ("{{ print nil }}{{ .Nope }}{{ print .Nope }}", "<nil><no value><nil>"),
    ('{{ print true 1.5 "x" nil }}', "true 1.5x<nil>"),
    ('{{ printf "%v %d %s %q %t" 1 2 "c" "d" true }}', '1 2 c "d" true'),
    (
        '{{ printf "%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o|%O|%b" 7 7 7 7 7 255 255 255 8 8 5 }}',
        "    7|7    |00007|+7| 7|ff|FF|0xff|10|0o10|101",
    ),
    (
        '{{ printf "%5.2f|%-8.3e|%g|%G|%08.3f|%+.1f" 3.14159 1234.5 1e-7 1e-7 3.14159 2.0 }}',
        " 3.14|1.234e+03|1e-07|1E-07|0003.142|+2.0",
    ),
    (
        '{{ printf "%5s|%-5s|%.2s|%5.1s|%q|%+q|%#q|%x|% X|%#x" "abc" "abc" "abc" "abc" "é\\n" "é" "a" "hi" "hi" "hi" }}',
        '  abc|abc  |ab|    a|"é\\n"|"\\u00e9"|`a`|6869|68 69|0x6869',
    ),
    ('{{ printf "%c|%q|%U|%#U" 233 233 233 233 }}', "é|'é'|U+00E9|U+00E9 'é'"),
    ('{{ printf "%6.2f%%|%*d|%.*f|%-*d|" 12.345 5 42 2 3.14159 4 7 }}', " 12.35%|   42|3.14|7   |"),
    ('{{ printf "%[2]d %[1]d|%[3]*.[2]*[1]f" 1 2 }}', "2 1|%!f(BADINDEX)"),
    ('{{ printf "%d %s" "a" 1 }}', "%!d(string=a) %!s(int=1)"),
    (
        '{{ printf "%d" }}|{{ printf "x" 1 "a" nil }}|{{ printf "%z %!" 1 }}|{{ printf "%" }}',
        "%!d(MISSING)|x%!(EXTRA int=1, string=a, <nil>)|%!z(int=1) %!!(MISSING)|%!(NOVERB)",
    ),
    ('{{ printf "%t %d" 1 nil }}', "%!t(int=1) %!d(<nil>)"),
    (
        '{{ printf "%T %T %T %T %T %T" 1 1.5 "a" true nil 1i }}',
        "int float64 string bool <nil> complex128",
    ),
    ('{{ printf "%v %+v %#v" 1.0 -2 "a" }}', '1 -2 "a"'),
    ('{{ printf "%b %x" 1.5 1.5 }}', "6755399441055744p-52 0x1.8p+00"),
    ('{{ printf "%6t|%-7t|%v" true false true }}', "  true|false  |true"),
    ('{{ printf "%w" "a" }}', "%!w(string=a)"),
    (
        '{{ printf "%s" 1.5 }}{{ printf "%08b" 5 }}{{ printf "%3c|%-3c|" 65 65 }}',
        "%!s(float64=1.5)00000101  A|A  |",
    ),
]

VALUES = [
    (
        "{{ .Tools }}",
        '[{"type":"function","function":{"name":"get_weather","description":"Weather \\u003cnow\\u003e","parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"its name"},"deep":{"type":"object","properties":{"b":{"type":"number"},"a":{}}},"unit":{"type":["string","null"],"enum":["c",1,null]},"where":{"anyOf":[{"type":"integer"},{"type":"array"}]}}}}}]',
    ),
    (
        "{{ $t }}",
        '{"type":"function","function":{"name":"get_weather","description":"Weather \\u003cnow\\u003e","parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"its name"},"deep":{"type":"object","properties":{"b":{"type":"number"},"a":{}}},"unit":{"type":["string","null"],"enum":["c",1,null]},"where":{"anyOf":[{"type":"integer"},{"type":"array"}]}}}}}',
    ),
    (
        "{{ $t.Function }}",
        '{get_weather Weather <now> {object <nil> <nil> [city] {"city":{"type":"string","description":"its name"},"deep":{"type":"object","properties":{"b":{"type":"number"},"a":{}}},"unit":{"type":["string","null"],"enum":["c",1,null]},"where":{"anyOf":[{"type":"integer"},{"type":"array"}]}}}}',
    ),
    (
        '{{ printf "%v" $t.Function.Parameters.Required }}{{ $t.Function.Parameters.Required }}',
        "[city][city]",
    ),
    ("{{ $a }}", '{"big":1e+21,"city":"Paris","days":2,"x":null,"y":[1,"a",null]}'),
    (
        "{{ $a.y }}{{ $a.x }}{{ $a.big }}{{ $a.days }}{{ $a.nope }}",
        "[1 a <nil>]<no value>1e+212<no value>",
    ),
    ("{{ json $a }}", '{"big":1e+21,"city":"Paris","days":2,"x":null,"y":[1,"a",null]}'),
    ("{{ $p.city }}", "{[] string <nil> its name [] <nil> []}"),
    ("{{ $p.city.Type }}{{ $p.unit.Type }}{{ $p.where.Type }}", "string[string null]"),
    ("{{ $p.unit.Enum }}", "[c 1 <nil>]"),
    ("{{ json $p.deep }}", '{"type":"object","properties":{"b":{"type":"number"},"a":{}}}'),
    (
        "{{ range $k, $v := $p }}{{ $k }}:{{ toTypeScriptType $v }};{{ $v.ToTypeScriptType }} {{ end }}",
        "city:string;string deep:Record<string, any>;Record<string, any> unit:string | null;string | null where:number | any[];number | any[] ",
    ),
    (
        "{{ range $k, $v := $p.deep.Properties.All }}{{ $k }}={{ $v.Type }} {{ end }}{{ $p.deep.Properties.Len }}{{ len $p.deep.Properties.ToMap }}",
        "b=number a= 22",
    ),
    (
        '{{ printf "%T %T %T %T" $t $a $p $u }}',
        "template.templateTool template.templateArgs template.templateProperties *template.templateMessage",
    ),
    ('{{ printf "%v" $u }}{{ $u }}', "&{user Grüße €  [] []  }{user Grüße €  [] []  }"),
    (
        '{{ printf "%+v" $u }}',
        "&{Role:user Content:Grüße € Thinking: Images:[] ToolCalls:[] ToolName: ToolCallID:}",
    ),
    (
        '{{ printf "%#v" $p.unit }}',
        'api.ToolProperty{AnyOf:[]api.ToolProperty(nil), Type:api.PropertyType{"string", "null"}, Items:interface {}(nil), Description:"", Enum:[]interface {}{"c", 1, interface {}(nil)}, Properties:(*api.ToolPropertiesMap)(nil), Required:[]string(nil)}',
    ),
    (
        '{{ printf "%#v" $a }}',
        'template.templateArgs{"big":1e+21, "city":"Paris", "days":2, "x":interface {}(nil), "y":[]interface {}{1, "a", interface {}(nil)}}',
    ),
    ('{{ printf "%d" $a.y }}', "[%!d(float64=1) %!d(string=a) <nil>]"),
    (
        '{{ printf "%q %x" $p.unit.Type $p.unit.Type }}',
        '"[string null]" 5b737472696e67206e756c6c5d',
    ),
    ("{{ $a.String }}", '{"big":1e+21,"city":"Paris","days":2,"x":null,"y":[1,"a",null]}'),
    ('{{ printf "%s" $t.Function.Parameters.Required }}', "[city]"),
    (
        "{{ json $u }}",
        '{"Role":"user","Content":"Grüße €","Thinking":"","Images":null,"ToolCalls":null,"ToolName":"","ToolCallID":""}',
    ),
    (
        '{{ json nil }}{{ json 1.5 }}{{ json 1e21 }}{{ json 1e-7 }}{{ json "<a>&\\u2028\\x01\\xff" }}{{ json true }}',
        'null1.51e+211e-7"\\u003ca\\u003e\\u0026\\u2028\\u0001\\ufffd"true',
    ),
    ("{{ .Images }}{{ (index .Messages 0).Images }}", "<no value>[]"),
    ("{{ toTypeScriptType 1 }}", "any"),
]

BUILTINS = [
    ('{{ and 1 0 2 }}{{ and 1 2 }}{{ or 0 "" "x" 1 }}{{ or 0 "" }}|', "02x|"),
    ('{{ or true (index "" 5) }}{{ and false (index "" 5) }}', "truefalse"),
    (
        '{{ not 0 }}{{ not "a" }}{{ not nil }}{{ not .Nope }}{{ not .Messages }}',
        "truefalsetruetruefalse",
    ),
    ('{{ len "é" }}{{ len .Messages }}{{ len $a }}{{ len "" }}', "2450"),
    (
        '{{ index "abc" 1 }}{{ index $a "city" }}{{ index $a.y 1 }}{{ index $p "nope" }}{{ index $a "nope" }}{{ index 5 }}',
        "98Parisa{[]  <nil>  [] <nil> []}<no value>5",
    ),
    (
        '{{ slice "abcdef" 1 3 }}{{ slice "abc" 1 }}{{ slice "abc" }}{{ len (slice .Messages 1) }}{{ len (slice (slice .Messages 0 1) 0 3) }}',
        "bcbcabc33",
    ),
    ("{{ len (slice .Messages 0 1 2) }}", "1"),
    (
        "{{ slice $u.Content 2 3 }}|{{ slice $u.Content 3 4 }}|{{ print (slice $u.Content 2 3) (slice $u.Content 3 4) }}",
        "�|�|ü",
    ),
    (
        '{{ html "<a b=\'c\' d=\\"e\\">&" }}{{ html 1 "a" nil .Nope }}',
        "&lt;a b=&#39;c&#39; d=&#34;e&#34;&gt;&amp;1a&lt;no value&gt;&lt;no value&gt;",
    ),
    (
        '{{ js "it\'s <b> = \\"x\\"\\n\\\\ é \\u2028" }}',
        'it\\\'s \\u003Cb\\u003E \\u003D \\"x\\"\\u000A\\\\ é \\u2028',
    ),
    ('{{ urlquery "a b&c=d/é~-_." 1 }}', "a+b%26c%3Dd%2F%C3%A9~-_.1"),
    (
        '{{ eq "a" "b" "a" }}{{ eq 1 2 }}{{ ne 1 2 }}{{ eq nil nil }}{{ eq .Nope nil }}{{ eq .Nope "x" }}{{ eq .Tools nil }}',
        "truefalsetruetruetruefalsefalse",
    ),
    (
        '{{ lt 1 2 }}{{ le 2 2 }}{{ gt "b" "a" }}{{ ge 1.5 2.5 }}{{ lt "a" "B" }}',
        "truetruetruefalsefalse",
    ),
    ("{{ eq $u (index .Messages 1) }}{{ eq $u (index .Messages 0) }}", "truefalse"),
    ('{{ eq (index "a" 0) 97 }}{{ lt (index "a" 0) 98 }}', "truetrue"),
    ('{{ 3 | printf "%d %d" 2 }}{{ "x" | print "a" | len }}', "2 32"),
    ('{{ .Nope | print }}{{ 1 | }}{{ ("a") | printf "%s%s" "b" }}', "<nil>1ba"),
    ('{{ print currentDate | len }}{{ currentDate "x" | len }}', "1010"),
]

CONTROL = [
    ('{{ if 0 }}a{{ else if "" }}b{{ else if 1 }}c{{ else }}d{{ end }}', "c"),
    ('{{ with 0 }}a{{ else with "x" }}{{ . }}{{ else }}c{{ end }}', "x"),
    ('{{ with "x" }}{{ . }}{{ $.System }}{{ end }}', "xS"),
    (
        "{{ range $i, $m := .Messages }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ if eq $i 3 }}{{ break }}{{ end }}{{ $i }}{{ $m.Role }} {{ end }}",
        "0system 2assistant ",
    ),
    (
        "{{ range $k, $v := $a }}{{ $k }}={{ $v }} {{ end }}",
        "big=1e+21 city=Paris days=2 x=<no value> y=[1 a <nil>] ",
    ),
    (
        "{{ range 3 }}{{ . }}{{ end }}{{ range $x := 2 }}{{ $x }}{{ end }}{{ range 0 }}a{{ else }}none{{ end }}{{ range -1 }}a{{ else }}none{{ end }}",
        "01201nonenone",
    ),
    ("{{ range .Nope }}a{{ else }}none{{ end }}", "none"),
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}", "32"),
    ("{{ $x := 0 }}{{ range .Messages }}{{ $x = .Role }}{{ end }}{{ $x }}", "tool"),
    (
        "{{ $i := 0 }}{{ $m := 0 }}{{ range $i, $m = .Messages }}{{ end }}{{ $i }}{{ $m.Role }}",
        "3tool",
    ),
    (
        "{{ range .Messages }}{{ range $.Tools }}{{ break }}{{ end }}{{ .Role }}{{ end }}",
        "systemuserassistanttool",
    ),
    ("{{ range $v := .Messages }}{{ else }}{{ end }}{{ with $x := 5 }}{{ $x }}{{ end }}", "5"),
    (
        '{{ define "t" }}<{{ . }}{{ $ }}>{{ end }}{{ template "t" "a" }}{{ template "t" 1 }}',
        "<aa><11>",
    ),
    ('{{ block "b" "x" }}[{{ . }}]{{ end }}{{ template "b" 2 }}', "[x][2]"),
    (
        '{{ define "r" }}{{ if . }}{{ len . }}{{ template "r" slice . 1 }}{{ end }}{{ end }}{{ template "r" "abc" }}',
        "321",
    ),
    ('{{ define "e" }} {{ end }}{{ define "e" }}x{{ end }}{{ template "e" . }}', "x"),
    ("{{ (index .Messages 1).Role }}{{ (.Nope).Foo }}{{ ($u).Role }}", "user<no value>user"),
    ("{{ ($z := 5) }}{{ $z }}", "55"),
    ("{{- /* c */ -}} a {{- /* d */}} b {{/* e */ -}} c", "a b c"),
    ("a\n {{- 1 -}} \n b {{ 2 -}}\n\n{{- 3 }} c", "a1b 23 c"),
    ("{{ if (and true (or false 1)) }}x{{ end }}", "x"),
    ("{{\n  print\n 1\n}}", "1"),
    ('{{"a"}}{{print (1) (2)}}', "a1 2"),
    (
        "{{ if .Nope }}a{{ else }}b{{ end }}{{ with $y := .Nope }}{{ else }}{{ $y }}{{ end }}",
        "b<no value>",
    ),
    ("{{ $x := .Messages }}{{ len $x }}{{ $x := 1 }}{{ $x }}", "41"),
]

BAD_SYNTAX = [
    "{{ if }}",
    "{{ end }}",
    "{{ if 1 }}",
    "{{ 1",
    "{{ nosuch }}",
    "{{ }}",
    "{{ else }}",
    "{{ if 1 }}{{ else }}{{ else }}{{ end }}",
    "{{ range 1 }}{{ else if 1 }}{{ end }}{{ end }}",
    "{{ with 1 }}{{ else if 1 }}{{ end }}",
    "{{ /* a */ }}",
    "{{/* a }}",
    "{{/* a */ 1}}",
    "{{ break }}",
    '{{ range . }}{{ block "a" . }}{{ break }}{{ end }}{{ end }}',
    "{{ $x }}",
    '{{ $x := 1 }}{{ define "a" }}{{ $x }}{{ end }}',
    "{{ if 1 }}{{ $x := 1 }}{{ end }}{{ $x }}",
    "{{ 1 | 2 }}",
    '{{ 1 | "a" }}',
    "{{ 1 | nil }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ () }}",
    "{{ 1.Foo }}",
    '{{ "a".Foo }}',
    "{{ nil.Foo }}",
    "{{ template }}",
    '{{ template "a" }}',
    "{{ template a . }}",
    '{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}',
    '{{ if 1 }}{{ define "a" }}{{ end }}{{ end }}',
    '{{ block "a" }}{{ end }}',
    "{{ $x, $y := 1 }}",
    "{{ range $x, $y, $z := . }}{{ end }}",
    "{{ range $x, 1 := . }}{{ end }}",
    "{{ 08 }}",
    "{{ 1__0 }}",
    "{{ 0x }}",
    "{{ 1e }}",
    "{{ 99999999999999999999 }}",
    "{{ 'ab' }}",
    "{{ '' }}",
    '{{ "\\q" }}',
    '{{ "\\400" }}',
    '{{ "\\ud800" }}',
    '{{ "a }}',
    "{{ `a }}",
    "{{ 'a }}",
    "{{ 1 : 2 }}",
    "{{ a-b }}",
    "{{ .a-b }}",
    "{{ @ }}",
    "{{ 1 , 2 }}",
    "{{ é }}",
    "{{ $x:=1 }}{{ $x$x }}",
    "{{-1}}{{- }}",
    "{{ 3 := 1 }}",
    "{{ . := 1 }}",
    "{{ ..a }}",
    "{{ .a.. }}",
    "{{ \\ }}",
]

BAD_EXECUTION = [
    "{{ nil }}",
    "{{ 18446744073709551615 }}",
    "{{ .Nope.Foo }}",
    "{{ .System.Foo }}",
    "{{ .Messages.Foo }}",
    "{{ $u.role }}",
    "{{ $u.Nope }}",
    "{{ .System 1 }}",
    "{{ 1 2 }}",
    "{{ 1 | .System }}",
    "{{ 1 | $u }}",
    "{{ $x = 1 }}",
    "{{ $x := $x }}",
    "{{ range 1.5 }}{{ end }}",
    '{{ range "ab" }}{{ end }}',
    "{{ range true }}{{ end }}",
    "{{ range $i, $x := 3 }}{{ end }}",
    "{{ range $t }}{{ end }}",
    "{{ len }}",
    "{{ len 1 }}",
    "{{ len nil }}",
    '{{ len "a" "b" }}',
    '{{ index "abc" 3 }}',
    '{{ index "abc" -1 }}',
    '{{ index "abc" "a" }}',
    "{{ index $a 1 }}",
    "{{ index 1 1 }}",
    "{{ index nil 1 }}",
    "{{ index }}",
    "{{ index $a nil }}",
    '{{ slice "abc" 2 1 }}',
    '{{ slice "abc" 0 4 }}',
    '{{ slice "abc" 0 1 2 }}',
    "{{ slice 1 }}",
    "{{ slice .Messages 0 1 2 3 }}",
    "{{ slice .Messages 0 2 1 }}",
    "{{ slice $a 0 }}",
    "{{ eq 1 }}",
    "{{ eq }}",
    '{{ eq 1 "a" }}',
    "{{ eq 1 1.0 }}",
    "{{ eq 1 true }}",
    "{{ ne 1 2 3 }}",
    "{{ lt 1 }}",
    '{{ lt 1 "a" }}',
    "{{ lt true false }}",
    "{{ lt nil 1 }}",
    "{{ lt 1i 2i }}",
    "{{ eq $a $a }}",
    "{{ eq .Messages .Messages }}",
    "{{ eq $t $t }}",
    "{{ eq $a .Messages }}",
    "{{ and }}",
    "{{ not }}",
    "{{ not 1 2 }}",
    "{{ printf }}",
    "{{ printf 1 }}",
    "{{ printf nil }}",
    "{{ 1 | printf }}",
    "{{ call nil }}",
    '{{ call "a" }}',
    "{{ call }}",
    "{{ json }}",
    "{{ json 1 2 }}",
    "{{ currentDate 1 }}",
    "{{ $a.String 1 }}",
    "{{ 1 | $a.String }}",
    '{{ template "nope" . }}',
    "{{ $p.deep.Properties.om }}",
    '{{ $p.deep.Properties.Get "a" }}',
    "{{ $p.deep.Properties.All }}",
    "{{ $p.city.Properties.Foo }}",
    "{{ print $u.Content.Foo }}",
    "{{ $p.city.Nope }}",
    "{{ ($a.x).Foo.Bar | len }}",
    "{{ $a.x.Foo }}",
]


@pytest.mark.parametrize("template, text", LITERALS + PRINTING + VALUES + BUILTINS + CONTROL)
def test_go(template: str, text: str) -> None:
    assert render(template) == text


@pytest.mark.parametrize("template", BAD_SYNTAX)
def test_bad_syntax(template: str) -> None:
    with pytest.raises(TemplateError, match="wrong in line 1: "):
        parse(template)


@pytest.mark.parametrize("template", BAD_EXECUTION)
def test_bad_execution(template: str) -> None:
    parsed = parse(PRELUDE + template)
    with pytest.raises(TemplateError, match="failed in line 1: "):
        parsed.execute(MESSAGES, TOOLS)


def test_errors_name_the_line() -> None:
    with pytest.raises(TemplateError, match="wrong in line 3: "):
        parse("a\n{{ 1 }}\n{{ nosuch }}")
    with pytest.raises(TemplateError, match="failed in line 4: "):
        parse("{{ .System }}{{/*\n\n*/}}\n{{ len 1 }}").execute([user("Hi")])


def test_dates() -> None:
    before = date.today()
    text = parse("{{ if .Messages }}{{ end }}{{ currentDate }}").execute([])
    assert before <= date.fromisoformat(text) <= date.today()
    assert parse("{{ .Messages }}{{ len (yesterdayDate) }}").execute([]) == "[]10"


# ---- Ollama's data and modes ---------------------------------------------------------------------


def test_bytes_that_are_no_text_come_out_as_replacement_characters() -> None:
    assert parse('{{ "\\xe2\\x82" }}{{ .Messages }}').execute([]) == "\ufffd\ufffd[]"
    assert parse("{{ .Prompt }}").execute([user("a\ud800b")]) == "a\ufffdb"


def test_images_are_bytes_or_base64() -> None:
    template = parse("{{ range .Messages }}{{ .Images }}{{ len .Images }}{{ end }}")
    assert template.execute([{**user(""), "images": [b"\1\2", "AwQ="]}]) == "[[1 2] [3 4]]2"


def test_wrong_types_count_as_absent() -> None:
    template = parse("{{ range .Messages }}{{ .Content }}|{{ .ToolCalls }}{{ end }}{{ .Tools }}")
    messages = [{"role": "user", "content": 5, "tool_calls": [1], "images": {}}]
    tool = '{"type":"","function":{"name":"","description":"","parameters":{"type":"","properties":null}}}'
    assert template.execute(messages, [{"function": 3}]) == f"|[][{tool}]"


def test_no_tools_are_null_and_an_empty_list_is_empty() -> None:
    template = parse("{{ .Messages }}{{ .Tools }}{{ if .Tools }}x{{ end }}")
    assert template.execute([]) == "[]null"
    assert template.execute([], []) == "[][]"


@pytest.mark.parametrize(
    "think, level, shown",
    [(None, "", "false false "), (True, "medium", "true true medium"), (False, "", "true false ")],
)
def test_think(think: bool | None, level: str, shown: str) -> None:
    template = parse("{{ .IsThinkSet }} {{ .Think }} {{ .ThinkLevel }}")
    assert golang.think_level(think) == level
    assert template.execute([], think=think, think_level=level) == shown


def test_a_level_is_itself() -> None:
    assert golang.think_level("high") == "high"


def test_messages_of_one_role_are_joined_but_those_of_tools() -> None:
    template = parse("{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}{{ .System }}")
    tool = {"role": "tool", "content": "t"}
    messages = [system("a"), user("b"), user("c"), tool, tool, system("d"), assistant("e")]
    joined = "system=a;user=b\n\nc;tool=t;tool=t;system=d;assistant=e;a\n\nd"
    assert template.execute(messages) == joined
    assert messages[1] == user("b")  # what was given stays as it was


def test_turn_by_turn() -> None:
    template = parse("[{{ .System }}|{{ .Prompt }}|{{ .Response }}]")
    messages = [system("s"), user("1"), assistant("2"), user("3"), system("t")]
    assert template.execute(messages) == "[s|1|2][|3|][t||"
    assert template.execute([user("1"), assistant("so far")]) == "[|1|so far"
    assert parse("{{ .Prompt }}!").execute([user("1"), assistant("2"), user("3")]) == "1!23!"


def test_the_last_turn_ends_at_the_response() -> None:
    template = parse("{{ .Prompt }}{{ if .Prompt }} {{ print .Response 1 }}x{{ end }}y")
    assert template.execute([user("a")]) == "a "
    assert parse("{{ .Prompt }}{{ (.Response) }}{{ .Prompt }}").execute([user("a")]) == "a"
    assert parse("{{ .Response | print }}x").execute([user("a")]) == ""


def test_the_last_turn_is_a_template_of_its_own() -> None:
    for template in (
        "{{ json .Prompt }}",
        '{{ define "t" }}x{{ end }}{{ template "t" . }}',
        "{{ if .Prompt }}{{ .Response }}{{ else }}x{{ end }}",
    ):
        parsed = parse(template)
        with pytest.raises(TemplateError):
            parsed.execute([user("a")])
    assert parse("{{ .Nope.Foo }}").execute([user("a")]) == "<no value>"


def test_the_middle_is_filled_in() -> None:
    template = parse("<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ .Messages }}{{ .System }}")
    assert (
        template.execute([user("x")], prompt="a", suffix="b") == "<P>a<S>b<M><no value><no value>"
    )
    assert template.variables == ("messages", "prompt", "suffix", "system")


@pytest.mark.parametrize(
    "template, names",
    [
        ("", ("response",)),
        ("{{ $x := .A.B }}{{ $x.C }}", ("$x", "a", "b", "c", "response")),
        ("{{ (.A).B }}{{ with $y := 1 }}{{ end }}", ("response",)),
        ('{{ define "t" }}{{ .Messages }}{{ end }}', ("messages",)),
        (
            '{{ template "t" .A }}{{ if .B }}{{ else }}{{ .ÄC }}{{ end }}',
            ("a", "b", "response", "äc"),
        ),
    ],
)
def test_variables(template: str, names: tuple[str, ...]) -> None:
    assert parse(template).variables == names


# ---- capabilities and tags -----------------------------------------------------------------------

THINKING = (
    "{{ range .Messages }}{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>{{ end }}"
    "{{ .Content }}{{ end }}"
)


@pytest.mark.parametrize(
    "template, tags",
    [
        (THINKING, ("<think>", "</think>")),
        ("{{ range .Messages }}<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>")),
        ("{{ range $i, $_ := .Messages }}{{ with .Thinking }}[{{ . }}]{{ end }}{{ end }}", ("", "")),
        ("{{ range .Messages }}<a>{{ .Thinking }}</a>{{ range .ToolCalls }}b{{ .Thinking }}c{{ end }}{{ end }}", ("<a>", "")),
        ("{{ if .Thinking }}<a>{{ .Thinking }}</a>{{ end }}", ("", "")),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", ("", "")),
        ("{{ .Prompt }}", ("", "")),
    ],
)  # fmt: skip
def test_thinking_tags(template: str, tags: tuple[str, str]) -> None:
    assert golang.thinking_tags(parse(template)) == tags


@pytest.mark.parametrize(
    "template, tag",
    [
        ("{{ if .ToolCalls }}<tool_call>\n{{ . }}{{ end }}", "<tool_call>"),
        ('{{ range .Messages }}{{ if eq 1 2 }}{{ else if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{"name"{{ end }}{{ end }}{{ end }}', "[TOOL_CALLS] ["),
        ('{{ if and .ToolCalls true }}{{ range .ToolCalls }}{"name": {{ end }}{{ end }}', "{"),
        ("{{ if .ToolCalls }}{{ .Content }}x{{ end }}", "{"),
        ("{{ if (.ToolCalls) }}x{{ end }}", "{"),
        ("{{ range .ToolCalls }}x{{ end }}", "{"),
        ("{{ .Prompt }}", "{"),
    ],
)  # fmt: skip
def test_tool_tag(template: str, tag: str) -> None:
    assert golang.tool_tag(parse(template)) == tag


@pytest.mark.parametrize(
    "template, can",
    [
        ("{{ .Prompt }}", ()),
        ("{{ .Tools }}{{ .Suffix }}", ("tools", "insert")),
        (THINKING + "{{ .Tools }}", ("tools", "thinking")),
    ],
)
def test_capabilities(template: str, can: tuple[str, ...]) -> None:
    assert golang.capabilities(parse(template)) == can


# ---- strangers -----------------------------------------------------------------------------------

HOSTILE = [
    "{{ range 1000000000 }}{{ end }}",
    "{{ range 5000 }}{{ range 5000 }}{{ $.System }}{{ end }}{{ end }}",
    '{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}',
    '{{ define "r" }}{{ range 2 }}{{ if true }}{{ template "r" . }}{{ end }}{{ end }}{{ end }}{{ template "r" . }}',
    '{{ $x := "0123456789" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}',
    '{{ $x := "<" }}{{ range 100 }}{{ $x = html $x $x }}{{ end }}',
    '{{ range 5000 }}{{ printf "%999999d" 1 }}{{ end }}',
    '{{ range 5000 }}{{ $x := printf "%999999d" 1 }}{{ end }}',
    '{{ printf "' + "%*d" * 40 + '"' + " 999999 1" * 40 + " }}",
    "{{ .__class__ }}{{ .System.__class__ }}",
    "{{ .Messages.__class__ }}",
    "{{ (index .Messages 0).__class__ }}",
    "{{ (index .Messages 0).target }}",
    "{{ $.entries }}{{ .Messages.backing }}",
    "{{ .System.format }}",
]  # fmt: skip


@pytest.mark.parametrize("template", HOSTILE)
def test_hostile_templates_fail_soon(template: str) -> None:
    parsed = parse("{{ if .Messages }}{{ end }}" + template)
    start = time.perf_counter()
    with pytest.raises(TemplateError, match="failed in line 1"):
        parsed.execute([user("Hi")], TOOLS)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "template",
    [
        "{{ if 1 }}" * 5000,
        "{{ if 1 }}{{ else if 1 }}" + "{{ else if 1 }}" * 5000 + "{{ end }}",
        "{{ " + "(" * 5000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        '{{ block "a" . }}' * 5000,
        "{{/*" * 50_000,
        "{{ -" * 50_000,
        "{{ 0x" + "1" * 100_000 + " }}",
        "{{ 0x1p" + "1" * 100_000 + " }}",
        "{{ 1" + "_1" * 50_000 + " }}",
        "{{ $x := 1 }}" * 5000,
        '{{ "' + "\\" * 50_000,
        "{{ " + "1 | len" * 10_000,
    ],
)  # fmt: skip
def test_hostile_syntax_fails_soon(template: str) -> None:
    start = time.perf_counter()
    with pytest.raises(TemplateError, match="wrong in line 1"):
        parse(template)
    assert time.perf_counter() - start < 5


def test_deep_json_fails() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    tool = {"function": {"parameters": {"items": deep}}}
    with pytest.raises(TemplateError, match="too deeply"):
        parse("{{ .Messages }}{{ .Tools }}").execute([], [tool])


PIECES = [
    "{{", "}}", "{{-", "-}}", " ", "\n", "if", "else", "end", "range", "with", "define", "block",
    "template", "break", ".", "$", "$x", ":=", "=", ",", "|", "(", ")", '"', "`", "'", "\\", "/*",
    "*/", "0x1", "1.5e3", "-", ".Messages", ".Response", "print", "printf", "%v", "nil", "é", "a",
]  # fmt: skip


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    for source in (text, "{{ " + text + " }}"):
        try:
            template = parse(source)
            golang.capabilities(template)
            golang.tool_tag(template)
            template.execute([user("Hi"), assistant("Yes")], TOOLS)
        except TemplateError as error:
            assert "\n" not in str(error)


@given(st.text())
def test_text_without_actions_is_itself(text: str) -> None:
    if "{{" not in text and not text.endswith("{"):
        plain = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
        assert parse(text + "{{ .Messages }}").execute([]) == plain + "[]"


VERBS = st.sampled_from("v s q x X d t f e g b o c U T p z".split())


@given(st.from_regex(r"[-+# 0]{0,3}[0-9]{0,2}(\.[0-9]{0,2})?", fullmatch=True), VERBS)
def test_every_verb_prints_every_value(flags: str, verb: str) -> None:
    """Nothing of Go's printing raises."""
    for name in ("$t", "$p", "$a", "$u", "$p.deep", "$p.deep.Properties", "1", "1.5", "1i", "nil"):
        text = render(f'{{{{ printf "<%{flags}{verb}>" {name} }}}}')
        assert text.startswith("<") and text.endswith(">")


def test_speed() -> None:
    """The render of a usual template over 50 messages: 1 ms on the machine that it was written on."""
    template = parse(
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}'
        "{{ if not $last }}<|im_end|>\n{{ end }}{{ end }}"
        '{{ if and (ne .Role "assistant") $last }}<|im_start|>assistant\n{{ end }}{{ end }}'
    )
    messages = [user("question " * 50), assistant("answer " * 50)] * 25
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        template.execute(messages)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005
