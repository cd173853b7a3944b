"""The variables that a request gives to the model's template: ``chat_template_kwargs`` of llama.cpp's and vLLM's clients. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidRequest

FIELDS = {"chat_template_kwargs": "map[string]interface {}"}

_DECIDED = ("messages", "tools", "xml_tools", "functions", "add_generation_prompt")
"""Variables that the request's other fields decide."""


def given_variables(given: Mapping[str, Any]) -> dict[str, Any]:
    """The variables. Raises InvalidRequest for one that another field decides."""
    found: dict[str, Any] = given.get("chat_template_kwargs", {})
    if decided := next((name for name in _DECIDED if name in found), None):
        raise InvalidRequest(
            f"chat_template_kwargs.{decided} is decided by the request, leave it out"
        )
    return found


def enabled_thinking(variables: Mapping[str, Any]) -> bool | None:
    """Whether the variables turn thinking on or off; None if they do not say. Raises InvalidRequest."""
    found = variables.get("enable_thinking", variables.get("thinking"))
    if found is not None and not isinstance(found, bool):
        raise InvalidRequest("chat_template_kwargs.enable_thinking must be true or false")
    return found
