"""What the commands print about models, as text: pure functions of the API's answers.

The forms are Ollama's (list, ps, show, the figures of --verbose), so that scripts which read them go on working.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import human
from .drawing import Card, Table

_LIST_COLUMNS = ("NAME", "ID", "SIZE", "MODIFIED")
_PS_COLUMNS = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
_TEXT_COLUMN = 100
_ARRAY_COLUMN = 10
_VALUE_COLUMN = 60


def with_prefix(models: Sequence[Mapping[str, Any]], prefix: str) -> list[Mapping[str, Any]]:
    """The models whose names begin with ``prefix``, in upper or lower case."""
    return [
        model for model in models if str(model.get("name", "")).lower().startswith(prefix.lower())
    ]


def stored(models: Sequence[Mapping[str, Any]], now: float) -> Table:
    """The table of `list`; ``now`` in seconds since the epoch."""
    rows = [
        (
            str(model.get("name", "")),
            str(model.get("digest", ""))[:12],
            human.format_bytes(int(model.get("size") or 0)),
            human.format_age(age(model.get("modified_at"), now)),
        )
        for model in models
    ]
    return Table(_LIST_COLUMNS, rows)


def loaded(models: Sequence[Mapping[str, Any]], now: float) -> Table:
    """The table of `ps`; ``now`` in seconds since the epoch."""
    rows = [
        (
            str(model.get("name", "")),
            str(model.get("digest", ""))[:12],
            human.format_bytes(int(model.get("size") or 0)),
            _processor(int(model.get("size") or 0), int(model.get("size_vram") or 0)),
            str(model.get("context_length", "")),
            _until(age(model.get("expires_at"), now)),
        )
        for model in models
    ]
    return Table(_PS_COLUMNS, rows)


def age(timestamp: object, now: float) -> float | None:
    """Seconds since an RFC 3339 time; None for Go's zero time and for text that is not a time."""
    from datetime import datetime

    try:
        then = datetime.fromisoformat(str(timestamp))
        return None if then.year <= 1 else now - then.timestamp()
    except ValueError:
        return None


def _until(age: float | None) -> str:
    return "Stopping..." if age is not None and age > 0 else human.format_age(age)


def _processor(size: int, vram: int) -> str:
    if size == 0 or vram > size:
        return "Unknown"
    if vram in (0, size):
        return "100% GPU" if vram else "100% CPU"
    cpu = int(100 * (size - vram) / size + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def card(show: Mapping[str, Any], *, verbose: bool = False) -> Card:
    """The sections that `show` prints of ``/api/show``'s answer."""
    sections: list[tuple[str, list[tuple[str, ...]]]] = [("Model", _model_rows(show))]
    sections.append(("Capabilities", [("", str(name)) for name in show.get("capabilities") or ()]))
    sections.append(("Projector", _projector_rows(show.get("projector_info") or {})))
    sections.append(("Parameters", [("", *line.split()) for line in _lines(show, "parameters")]))
    if verbose:
        info = show.get("model_info") or {}
        sections.append(
            (
                "Metadata",
                [("", key, _metadata(info[key])) for key in sorted(info) if info[key] is not None],
            )
        )
        tensors = show.get("tensors") or ()
        sections.append(
            ("Tensors", [("", t["name"], t["type"], plain(t["shape"])) for t in tensors])
        )
    sections.append(("System", _text_rows(_lines(show, "system"))))
    sections.append(("License", _text_rows(_lines(show, "license"))))
    return Card([(title, rows) for title, rows in sections if rows])


def _model_rows(show: Mapping[str, Any]) -> list[tuple[str, ...]]:
    details, info = show.get("details") or {}, show.get("model_info") or {}
    architecture = info.get("general.architecture") or details.get("family", "")
    count = info.get("general.parameter_count")
    trained = info.get(f"{architecture}.context_length")
    effective = show.get("effective_context_length")
    rows = {
        "architecture": architecture,
        "parameters": details.get("parameter_size") or (count and human.format_number(int(count))),
        "context length": trained,
        # The context of a request on this machine; left out where it is the trained one, as Ollama prints none
        "effective context": effective if effective != trained else None,
        "embedding length": info.get(f"{architecture}.embedding_length"),
        "quantization": details.get("quantization_level"),
        "requires": show.get("requires"),
    }
    return [("", name, plain(value)) for name, value in rows.items() if value]


def _projector_rows(info: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What encodes images or sound for the model, as Ollama shows it; the lengths are of the first encoder."""
    architecture = info.get("general.architecture", "")
    count = info.get("general.parameter_count")
    encoders = [f"{architecture}.{kind}" for kind in ("vision", "audio")]

    def of_encoder(key: str) -> Any:
        return next((info[f"{each}.{key}"] for each in encoders if info.get(f"{each}.{key}")), None)

    rows = {
        "architecture": architecture,
        "parameters": count and human.format_number(int(count)),
        "embedding length": of_encoder("embedding_length"),
        "dimensions": of_encoder("projection_dim"),
    }
    return [("", name, plain(value)) for name, value in rows.items() if value]


def _lines(show: Mapping[str, Any], field: str) -> list[str]:
    return [line.strip() for line in str(show.get(field) or "").splitlines() if line.strip()]


def _text_rows(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """The first two lines, wrapped, and a mark if there are more."""
    rows: list[tuple[str, ...]] = [("", part) for line in lines[:2] for part in _wrapped(line)]
    return [*rows, ("", "...")] if len(lines) > 2 else rows


def _wrapped(line: str) -> Iterator[str]:
    while len(line) > _TEXT_COLUMN:
        end = line.rfind(" ", 1, _TEXT_COLUMN + 1)
        end = end if end > 0 else _TEXT_COLUMN
        yield line[:end].rstrip()
        line = line[end:].lstrip()
    yield line


def _metadata(value: object) -> str:
    """One value in one short line; an array begins as far as it fits and counts the rest."""
    if not isinstance(value, list):
        text = plain(value)
        first = text.splitlines()[0] if text.strip() else ""
        is_whole = first == text and len(text) <= _VALUE_COLUMN
        return first if is_whole else first[:_VALUE_COLUMN] + "..."
    used, fitting = 1, 0
    for index, item in enumerate(value):
        used += len(plain(item)) + (2 if index else 0)
        if used > _ARRAY_COLUMN and index:
            break
        fitting += 1
    shown = " ".join(plain(item) for item in value[:fitting])
    rest = f" ...+{len(value) - fitting} more" if fitting < len(value) else ""
    return f"[{shown}{rest}]"


def plain(value: object) -> str:
    """One value as Go's %v writes it, but whole numbers without an exponent."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not value.is_integer():
        return human.format_float(value)
    if isinstance(value, float):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(plain, value))}]"
    return str(value)


def notes(final: Mapping[str, Any]) -> Iterator[str]:
    """Notes from the last object of an answer: that the context has grown, what was left out of files and of the prompt."""
    for note in final.get("notes") or ():
        yield f"Note: {note}"
    if grown := final.get("context_grown"):
        yield (
            f"Note: the model's context has grown from {grown.get('from')} to {grown.get('to')} tokens"
        )
    if cut := final.get("prompt_truncated"):
        yield _truncated(cut)


def repeating(option: str) -> str:
    """The note that an answer was ended, with the option that lifts the bound."""
    return f"Note: the answer only repeated itself and was ended; {option} lifts this bound"


def _truncated(cut: Mapping[str, Any]) -> str:
    tokens = cut.get("tokens", "some")
    if messages := cut.get("messages"):
        oldest = "oldest message" if messages == 1 else f"{messages} oldest messages"
        were = "was" if messages == 1 else "were"
        return (
            f"Warning: the conversation is longer than the context, its {oldest} ({tokens} tokens)"
            f" {were} left out; set a larger num_ctx"
        )
    return (
        f"Warning: the prompt is longer than the context, {tokens} tokens of its middle were left out;"
        " shorten it or set a larger num_ctx"
    )


def statistics(final: Mapping[str, Any]) -> str:
    """The figures of --verbose from the last chunk of an answer; a line whose value is 0 is left out."""

    def rate(count: str, duration: str) -> str:
        tokens, nanoseconds = final.get(count) or 0, final.get(duration) or 0
        seconds = nanoseconds / human.NANOSECONDS
        return f"{tokens / seconds:.2f} tokens/s" if tokens and seconds else ""

    def duration(name: str) -> str:
        return human.format_duration(int(final[name])) if final.get(name) else ""

    def count(name: str) -> str:
        return f"{final[name]} token(s)" if final.get(name) else ""

    lines = {
        "total duration:": duration("total_duration"),
        "load duration:": duration("load_duration"),
        "prompt eval count:": count("prompt_eval_count"),
        "prompt eval duration:": duration("prompt_eval_duration"),
        "prompt eval rate:": rate("prompt_eval_count", "prompt_eval_duration"),
        "eval count:": count("eval_count"),
        "eval duration:": duration("eval_duration"),
        "eval rate:": rate("eval_count", "eval_duration"),
    }
    return "".join(f"{label:<22}{value}\n" for label, value in lines.items() if value)
