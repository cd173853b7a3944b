"""A model's parameters, printed."""

from __future__ import annotations

from ollamapy.formats.parameters import print_parameters


def test_parameters_are_printed_as_go_does() -> None:
    values = {"b": True, "f": 1e-5, "n": 1_048_576, "s": 'a"b\n', "list": ["x", 1], "none": None}
    assert print_parameters(values) == "\n".join(
        f"{name:30} {value}"
        for name, value in [
            ("b", "true"),
            ("f", "1e-05"),
            ("list", '"x"'),
            ("list", "1"),
            ("n", "1.048576e+06"),
            ("s", r'"a\"b\n"'),
        ]
    )
