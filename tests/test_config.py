"""Settings of an environment: addresses as tables, and what a wrong value becomes."""

from __future__ import annotations

import pytest

from ollamapy.config import Address, Settings, parse_address
from ollamapy.errors import InvalidSetting


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("10.1.2.3", Address("10.1.2.3")),
        ("box:80", Address("box", 80)),
        ("box:", Address("box")),
        (":8000", Address("", 8000)),
        (" '0.0.0.0:0' ", Address("0.0.0.0", 0)),
        ("::1", Address("::1")),
        ("0:0:0:0:0:0:0:1", Address("0:0:0:0:0:0:0:1")),
        ("::", Address("::")),
        ("fe80::1%eth0", Address("fe80::1%eth0")),
        ("::ffff:127.0.0.1", Address("::ffff:127.0.0.1")),
        ("[::1]", Address("::1")),
        ("[::1]:65535", Address("::1", 65535)),
        ("http://box", Address("box", 80)),
        ("HTTPS://box", Address("box", 443, "https")),
        ("http://::1/api/", Address("::1", 80, "http", "/api")),
        ("https://box:1/a/b/", Address("box", 1, "https", "/a/b")),
        ("ollama.com", Address("ollama.com", 443, "https")),
        ("ollama.com:1", Address("ollama.com", 1)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:99999",
        "127.0.0.1:65536",
        ":abc",
        "box:80x",
        "box:-1",
        "box:+1",
        "box:٣",
        "127.0.0.1:18131,127.0.0.1:18132",
        "a,b",
        "a b",
        "[::1",
        "::1]",
        "[::1]x:80",
        "[box]:80",
        "[]:80",
        "1:2:3",
        "::1:11434",
        "::g",
        "ftp://box",
        "unix:///run/a",
        "user@box",
        "box?x:1",
        "box/a\x1b[31m",
    ],
)
@pytest.mark.parametrize("name", ["OLLAMAPY_HOST", "OLLAMA_HOST"])
def test_what_is_no_address_is_an_error_that_names_the_variable(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"^{name} is ") as error:
        Settings.from_env({name: text})
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KEEP_ALIVE", "forever"),
        ("KEEP_ALIVE", "5 minutes"),
        ("KEEP_ALIVE", "1" * 400),
        ("LOAD_TIMEOUT", "²"),
        ("NUM_PARALLEL", "abc"),
        ("NUM_PARALLEL", "-1"),
        ("NUM_PARALLEL", "1_0"),
        ("MAX_LOADED_MODELS", "2.5"),
        ("MAX_QUEUE", "0x10"),
        ("CONTEXT_LENGTH", "8k"),
        ("CONTEXT_LENGTH", "99999999999"),
        ("FLASH_ATTENTION", "maybe"),
        ("SERVE_MODELS", "perhaps"),
    ],
)
def test_a_value_that_makes_no_sense_is_warned_of(name: str, text: str) -> None:
    for variable in (f"OLLAMAPY_{name}", f"OLLAMA_{name}"):
        settings = Settings.from_env({variable: text})
        [warning] = settings.warnings
        assert warning.startswith(f"{variable} is {ascii(text[:40])}")
    default = Settings.from_env({})
    if name not in ("FLASH_ATTENTION", "SERVE_MODELS"):
        assert getattr(settings, name.lower()) == getattr(default, name.lower())


def test_values_that_make_sense() -> None:
    settings = Settings.from_env(
        {
            "OLLAMAPY_KEEP_ALIVE": "-1",
            "OLLAMAPY_LOAD_TIMEOUT": "10m",
            "OLLAMA_NUM_PARALLEL": "+2",
            "OLLAMA_MAX_LOADED_MODELS": "0",
            "OLLAMAPY_FLASH_ATTENTION": "False",
        }
    )
    assert settings.warnings == ()
    assert settings.keep_alive is None and settings.load_timeout == 600
    assert settings.num_parallel == 2 and settings.max_loaded_models is None
    assert settings.flash_attention is False
