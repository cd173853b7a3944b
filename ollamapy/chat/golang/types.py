"""The types that Ollama gives to a template: names as %T prints them, fields, and their JSON names.

Their methods are set in ``data.py``.
"""

from __future__ import annotations

from .values import UINT8, GoType, StructField

_ANY = GoType("interface {}", "interface")
_STRING = GoType("string", "string")

STRINGS = GoType("[]string", "slice", _STRING)
LIST = GoType("[]interface {}", "slice", _ANY)
OBJECT = GoType("map[string]interface {}", "map", _ANY)

IMAGE = GoType("api.ImageData", "slice", UINT8)
IMAGES = GoType("[]api.ImageData", "slice", IMAGE)
PROPERTY_TYPE = GoType("api.PropertyType", "slice", _STRING)
PROPERTY = GoType(
    "api.ToolProperty",
    "struct",
    fields=(
        StructField("AnyOf", "anyOf", True),
        StructField("Type", "type", True),
        StructField("Items", "items", True),
        StructField("Description", "description", True),
        StructField("Enum", "enum", True),
        StructField("Properties", "properties", True),
        StructField("Required", "required", True),
    ),
)
PROPERTY_LIST = GoType("[]api.ToolProperty", "slice", PROPERTY)
PROPERTY_MAP = GoType("map[string]api.ToolProperty", "map", PROPERTY)
ORDERED = GoType("api.ToolPropertiesMap", "struct")
ORDER = GoType("*orderedmap.Map[string,github.com/ollama/ollama/api.ToolProperty]", "ptr")
ORDERED_POINTER = GoType("*api.ToolPropertiesMap", "ptr", ORDERED)
PAIRS = GoType("iter.Seq2[string,github.com/ollama/ollama/api.ToolProperty]", "func")

PROPERTIES = GoType("template.templateProperties", "map", PROPERTY)
PARAMETERS = GoType(
    "template.templateToolFunctionParameters",
    "struct",
    fields=(
        StructField("Type", "type"),
        StructField("Defs", "$defs", True),
        StructField("Items", "items", True),
        StructField("Required", "required", True),
        StructField("Properties", "properties"),
    ),
)
TOOL_FUNCTION = GoType(
    "template.templateToolFunction",
    "struct",
    fields=(
        StructField("Name", "name"),
        StructField("Description", "description"),
        StructField("Parameters", "parameters"),
    ),
)
TOOL = GoType(
    "template.templateTool",
    "struct",
    fields=(
        StructField("Type", "type"),
        StructField("Items", "items", True),
        StructField("Function", "function"),
    ),
)
TOOLS = GoType("template.templateTools", "slice", TOOL)

ARGUMENTS = GoType("template.templateArgs", "map", _ANY)
CALL_FUNCTION = GoType(
    "template.templateToolCallFunction",
    "struct",
    fields=tuple(StructField(name, name) for name in ("Index", "Name", "Arguments")),
)
CALL = GoType(
    "template.templateToolCall",
    "struct",
    fields=tuple(StructField(name, name) for name in ("ID", "Function")),
)
CALLS = GoType("[]template.templateToolCall", "slice", CALL)
MESSAGE = GoType(
    "template.templateMessage",
    "struct",
    fields=tuple(
        StructField(name, name)
        for name in ("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID")
    ),
)
MESSAGE_POINTER = GoType("*template.templateMessage", "ptr", MESSAGE)
MESSAGES = GoType("[]*template.templateMessage", "slice", MESSAGE_POINTER)
