"""Presets over HTTP, across a restart, and in a file that is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve

TERSE = {"system": "Be terse.", "options": {"temperature": 0.1, "stop": ["\n"]}, "think": False}


def names(daemon: Daemon) -> list[str]:
    return [each["name"] for each in daemon.ask("GET", "/api/presets").json()["presets"]]


def test_presets_are_kept_replaced_and_deleted(model_store: Path, tmp_path: Path) -> None:
    with serve(tmp_path, model_store) as daemon:
        assert names(daemon) == []
        put = daemon.ask("PUT", "/api/presets/Terse%20one", TERSE)
        assert put.status == 200 and put.json() == {"name": "Terse one", **TERSE}
        assert daemon.ask(
            "PUT", "/api/presets/a", {"format": {"type": "object"}, "keep_alive": "5m"}
        )
        assert daemon.ask("PUT", "/api/presets/a", {"model": "hello"}).status == 200
        assert names(daemon) == ["a", "Terse one"]
    file = tmp_path / "presets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    with serve(tmp_path, model_store) as daemon:
        first, second = daemon.ask("GET", "/api/presets").json()["presets"]
        assert first == {"name": "a", "model": "hello"} and second == {"name": "Terse one", **TERSE}
        assert daemon.ask("DELETE", "/api/presets/a").status == 204
        assert daemon.ask("DELETE", "/api/presets/a").status == 404
        assert names(daemon) == ["Terse one"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"version": 2, "owners": {}}', b"\xff" * 99])
def test_a_file_that_cannot_be_read_is_set_aside(
    model_store: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "presets.json").write_bytes(content)
    with serve(tmp_path, model_store) as daemon:
        assert names(daemon) == []
        assert daemon.ask("PUT", "/api/presets/a", TERSE).status == 200
        assert "it lies in" in daemon.log.read_text()
    assert (tmp_path / "presets.json.aside").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("x", {"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ("x", {"format": 3}, "invalid format"),
        ("x", {"think": "much"}, "invalid think value"),
        ("x", {"keep_alive": "soon"}, "soon"),
        ("x", {"system": 3}, "system"),
        ("x", [], "cannot unmarshal array"),
        ("%20", {}, "a preset's name has 1 to 100 characters"),
        ("x" * 101, {}, "a preset's name has 1 to 100 characters"),
        ("a%0ab", {}, "a preset's name has 1 to 100 characters"),
        ("x", {"system": "x" * 70000}, "at most 65536 bytes"),
    ],
)
def test_what_is_refused(daemon: Daemon, name: str, body: Any, message: str) -> None:
    answer = daemon.ask("PUT", f"/api/presets/{name}", body)
    assert answer.status == 400 and message in answer.json()["error"], answer.body


@pytest.mark.long
def test_there_are_not_too_many(model_store: Path, tmp_path: Path) -> None:
    with serve(tmp_path, model_store) as daemon:
        for number in range(200):
            assert daemon.ask("PUT", f"/api/presets/{number}", {}).status == 200
        assert daemon.ask("PUT", "/api/presets/one%20more", {}).status == 400
        assert daemon.ask("PUT", "/api/presets/7", TERSE).status == 200
