"""`ollamapy lint`: a row for each piece of advice, and the command's output and exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamapy.formats.lint import lint
from tests.formats import folders
from tests.small_models import random_model

from .conftest import Command

CHATML = "TEMPLATE <|im_start|>user {{ .Prompt }}<|im_end|>"
ASK = 'PARAMETER stop "<|im_end|>"'


def nothing_exists(value: str) -> bool:
    return False


def told(text: str, exists: Callable[[str], bool] = nothing_exists) -> list[str]:
    """The findings as the command prints them, without the file's name."""
    return [f"{e.line}:{e.column}: {e.severity}: {e.message}" for e in lint(text, exists)]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        # What would be refused
        ("PARAMETER tempratur 1",
         ["2:1: error: unknown parameter 'tempratur', did you mean 'temperature'?"]),
        ("PARAMETER top_k many", ["2:1: error: invalid int value [many] for top_k, write a whole number"]),
        ("REQUIRES latest", ["2:1: error: requires must be a valid semver (e.g. 0.14.0)"]),
        ("SYSTEM \"a", ["2:8: error: unexpected EOF: the \" that begins this value has no \" at the end of a line, "
                        "put one where the value ends"]),
        ('SYSTEM """a""" b', ['2:8: error: unexpected EOF: the """ that begins this value has no """ at the end of '
                              'a line, put what follows the """ on the same line before it']),
        ("DRAFT m", ["2:1: error: DRAFT must not reference the same local path as FROM: 'm'"]),
        # Values without a meaning
        ("PARAMETER num_ctx -5", ["2:1: warning: num_ctx -5 makes no sense, write 1 or more"]),
        ("PARAMETER top_p 7", ["2:1: warning: top_p 7 makes no sense, write 0 to 1"]),
        ("PARAMETER temperature -3", ["2:1: warning: temperature -3 makes no sense, write 0 to 100"]),
        ("PARAMETER num_predict -2", []),
        # Deprecated, ignored, refused by Ollama alone
        (" PARAMETER mirostat 1", ["2:2: warning: parameter mirostat is deprecated and does nothing, leave it out"]),
        ('PARAMETER stop ""', ["2:1: warning: an empty stop does nothing, leave it out"]),
        ("PARAMETER  top_k 1", ["2:1: warning: more than one space after PARAMETER, Ollama refuses that"]),
        # Marks and characters
        ('SYSTEM "a" b\nLICENSE "c"', ['2:10: warning: text follows this ", so it does not end the value: it is part of it']),
        ('SYSTEM """a\nbc""" d\n"""', ['3:3: warning: text follows this """, so it does not end the value: it is part of it']),
        ('SYSTEM "You are "Bob".\nBe nice."', []),
        ('SYSTEM "Say "hi"."', []),
        ('SYSTEM """a"""b"""', []),
        ("PARAMETER stop 'a'", ["2:16: warning: apostrophes do not quote and are part of the value, write \" for '"]),
        ('PARAMETER stop "a\\n"', ["2:18: warning: there are no escapes, \\n is a backslash and a letter: "
                                   "write a value of several lines"]),
        ("SYSTEM a\u200bb\u200bc", ["2:1: warning: 2 characters that do not print are left out of the value"]),
        ("SYSTEM a\u200bb", ["2:1: warning: 1 character that does not print is left out of the value"]),
        # Said twice
        ("SYSTEM a\nSYSTEM b\nSYSTEM c", [
            "2:1: warning: SYSTEM is given again on line 4, only the last one counts",
            "3:1: warning: SYSTEM is given again on line 4, only the last one counts"]),
        ("FROM b", ["1:1: warning: FROM is given again on line 2, only the last one counts"]),
        ("TEMPLATE a\nTEMPLATE b", ["2:1: warning: TEMPLATE is given again on line 3, only the last one counts"]),
        ("PARAMETER seed 1\nPARAMETER seed 2",
         ["2:1: warning: PARAMETER seed is given again on line 3, only the last one counts"]),
        ("PARAMETER stop a\nPARAMETER stop b\nLICENSE a\nLICENSE b\nMESSAGE user a\nMESSAGE user b", []),
        # Templates and stops
        (CHATML, ['2:40: warning: "<|im_end|>" of the template is no stop, add: PARAMETER stop "<|im_end|>"']),
        (f"{CHATML}\nPARAMETER stop x", ['2:40: warning: "<|im_end|>" of the template is no stop, '
                                         'add: PARAMETER stop "<|im_end|>"']),
        (f"{CHATML}\n{ASK}", []),
        (f"{CHATML}\nPARAMETER stop <|im_end", []),
        (f"{CHATML}\nTEMPLATE {{{{ .Prompt }}}}",
         ["2:1: warning: TEMPLATE is given again on line 3, only the last one counts"]),
        ('TEMPLATE """a\r\nb<end_of_turn>\n<end_of_turn>"""',
         ['3:2: warning: "<end_of_turn>" of the template is no stop, add: PARAMETER stop "<end_of_turn>"']),
        ("TEMPLATE [INST] {{ .Prompt }} [/INST]", [
            '2:10: warning: the template has marks like "[INST]" and there is no stop, add: PARAMETER stop "[INST]"']),
        ("TEMPLATE {{ .Prompt }}<|endoftext|>", []),
        ("TEMPLATE {{ .Prompt }}", []),
        # Paths
        ("ADAPTER ./a", ["2:1: error: there is no './a', paths begin at the folder of the Modelfile"]),
        ("ADAPTER ./a\nADAPTER ./b", [
            "2:1: error: there is no './a', paths begin at the folder of the Modelfile",
            "3:1: error: there is no './b', paths begin at the folder of the Modelfile"]),
        ("DRAFT d", ["2:1: error: there is no 'd', paths begin at the folder of the Modelfile"]),
    ],
)  # fmt: skip
def test_advice(text: str, findings: list[str]) -> None:
    assert told(f"FROM m\n{text}\n") == findings


@pytest.mark.parametrize(
    ("value", "findings"),
    [
        ("llama3.2:1b", []),
        ("hf.co/user/repo:Q4_K_M", []),
        ("model.gguf", ["there is no 'model.gguf', paths begin at the folder of the Modelfile"]),
        ("../m", ["there is no '../m', paths begin at the folder of the Modelfile"]),
        ("~/m", ["there is no '~/m', paths begin at the folder of the Modelfile"]),
        (".", ["there is no '.', paths begin at the folder of the Modelfile"]),
    ],
)
def test_from_is_a_name_or_a_path(value: str, findings: list[str]) -> None:
    assert told(f"FROM {value}") == [f"1:1: error: {each}" for each in findings]
    assert told(f"FROM {value}\nFROM b\nADAPTER c", lambda value: True) == []


def test_from_may_be_neither() -> None:
    [finding] = told("FROM two words")
    assert finding.startswith("1:1: error: FROM names no file and no model: invalid model name")


def test_a_file_without_from_is_wrong_at_its_beginning() -> None:
    [finding] = told("SYSTEM a")
    assert finding.startswith("1:1: error: no FROM line, add one")


# The command


def test_warnings_are_status_0(ollamapy: Command, tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    random_model(tmp_path / "m.gguf")
    path.write_text(f"FROM ./m.gguf\n{CHATML}\n")
    result = ollamapy("lint", str(path))
    [only] = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (0, "")
    assert only.startswith(f'{path}:2:40: warning: "<|im_end|>" of the template is no stop')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"FROM m\nADAPTER {'x' * 5000}\n", ":2:1: error: there is no 'xxx"),
        ("FROM ./damaged.gguf\n", ":1:1: error: 'damaged.gguf': the model file cannot be used"),
        ("FROM ./mamba\n", ":1:1: error: the model's architecture (MambaForCausalLM)"),
        ("FROM m\nTEMPLATE {{ if .Prompt }}\n", ":2:1: error: the template is wrong: "),
        (
            "FROM m\nFROM ./m.gguf\n",
            ':1:1: error: "m.gguf" is a model and neither adapter nor projector',
        ),
        ("FROM m\nADAPTER ./m.gguf\nDRAFT d\n", ":3:1: error: there is no 'd'"),
        ("FROM m\nADAPTER ./m.gguf\n", ':1:1: error: "m.gguf" is a model and neither adapter'),
        (
            "FROM ./m.gguf\nFROM ./other.gguf\n",
            ":1:1: error: 2 files are models, and they are no shards",
        ),
        ("FROM ./text.gguf\n", ":1:1: error: 'text.gguf': supplied file was not in GGUF format"),
        ("FROM ./pointer.gguf\n", ":1:1: error: 'pointer.gguf': it is a Git LFS pointer"),
        ("FROM ./unworded\n", ":1:1: error: the folder has no tokenizer"),
        ("FROM ./odd.bin\n", ":1:1: error: the checkpoint cannot be used"),
        ("FROM m\n" + "PARAMETER stop x\n" * 300, ':1:1: error: option "stop" has 300'),
    ],
)
def test_what_create_would_refuse_is_an_error(
    ollamapy: Command, tmp_path: Path, text: str, says: str
) -> None:
    random_model(tmp_path / "m.gguf")
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    (tmp_path / "mamba").mkdir()
    config = '{"architectures": ["MambaForCausalLM"], "model_type": "olmo2"}'
    (tmp_path / "mamba" / "config.json").write_text(config)
    head = b"{}      "
    (tmp_path / "mamba" / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    random_model(tmp_path / "other.gguf", seed=2)
    (tmp_path / "text.gguf").write_text("Once upon a time")
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "odd.bin").write_bytes(b"odd")
    folders.make(tmp_path / "unworded", folders.FAMILIES["llama"])
    (tmp_path / "unworded" / "tokenizer.json").unlink()
    path = tmp_path / "Modelfile"
    path.write_text(text)
    result = ollamapy("lint", str(path))
    assert result.returncode == 1 and says in result.stdout
    if "mamba" in text:  # the way, and the catalogue's model of that family
        assert "convert_hf_to_gguf.py" in result.stdout
        assert result.stdout.endswith("in the catalogue: ollamapy pull olmo2\n")


@pytest.mark.parametrize("value", ["./dir\\ x/m.gguf", "'./dir x/m.gguf'", '"./dir x/m.gguf"'])
def test_a_path_as_a_shell_takes_it(ollamapy: Command, tmp_path: Path, value: str) -> None:
    (tmp_path / "dir x").mkdir()
    random_model(tmp_path / "dir x" / "m.gguf")
    (tmp_path / "Modelfile").write_text(f"FROM {value}\n")
    result = ollamapy("lint", str(tmp_path / "Modelfile"))
    assert (result.returncode, result.stdout) == (0, "")


def test_errors_are_status_1(ollamapy: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("FROM m\nSISTEM a\n")
    result = ollamapy("lint", str(path))
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"{path}:2:1: error: command must be one of ")
    assert result.stdout.endswith('not "SISTEM", did you mean SYSTEM?\n')


def test_a_clean_file_prints_nothing(ollamapy: Command, tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_bytes("\ufeffFROM m\nSYSTEM ü\n".encode("utf-16-le"))
    result = ollamapy("lint", str(path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_json(ollamapy: Command, tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_text("FROM m\nPARAMETER mirostat 1\n")
    result = ollamapy("lint", "--json", str(path))
    message = "parameter mirostat is deprecated and does nothing, leave it out"
    finding = {"line": 2, "column": 1, "severity": "warning", "message": message}
    assert json.loads(result.stdout) == {"file": str(path), "findings": [finding]}
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["/nosuch/Modelfile"],
            "Error: cannot read /nosuch/Modelfile (no such file or directory): name the file, as in 'ollamapy lint MODELFILE'\n",
        ),
        (
            ["/"],
            "Error: cannot read / (is a directory): name the file, as in 'ollamapy lint MODELFILE'\n",
        ),
        (["a", "b"], "Error: accepts at most 1 arg(s), received 2, see: ollamapy lint --help\n"),
    ],
)
def test_a_file_that_cannot_be_read(arguments: list[str], says: str, ollamapy: Command) -> None:
    result = ollamapy("lint", *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", says)


def test_the_example_of_this_project_is_clean(ollamapy: Command) -> None:
    path = Path(__file__).parents[2] / "Modelfile.example"
    assert (ollamapy("lint", str(path)).stdout) == ""
