"""What Go's own text/template makes of each row below; the results are taken from Go 1.26."""

from __future__ import annotations

from datetime import date

import pytest

from ollamapy.chat.golang import parse
from ollamapy.errors import TemplateError
from tests.chat.golang.turns import MESSAGES, PRELUDE, TOOLS, render, user

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
