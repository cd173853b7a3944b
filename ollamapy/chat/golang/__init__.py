"""Go templates as Ollama uses them: :func:`parse` gives a :class:`GoTemplate`, whose ``execute`` makes a prompt.

The modules in reading order:

    values      Go's values as Python objects
    types       the types that Ollama gives to a template
    floats      strconv.FormatFloat
    marshal     encoding/json
    data        a request's JSON -> values of these types
    verbs       fmt's format strings
    formatter   fmt's flags and padding, and its numbers
    printing    fmt.Sprint and its siblings
    tree        the syntax tree
    tokens      text -> tokens
    literals    the values of strings and numbers in a template
    parser      tokens -> trees
    functions   what a template can call
    execution   a tree and its data -> text
    cut         the part of a tree that writes the last turn
    template    a parsed template, and the three ways to execute it
    tags        what can be read off a template without executing it

A template can reach only what ``data.py`` gives it; nothing here reads or writes anything but the
clock, for the current date. Limits of text and steps are in ``execution.py``.
"""

from .tags import capabilities, thinking_tags, tool_tag
from .template import GoTemplate, parse, think_level

__all__ = ["GoTemplate", "capabilities", "parse", "think_level", "thinking_tags", "tool_tag"]
