"""Python values as MATLAB source text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from opticstream_smk.errors import ConfigError

Value: TypeAlias = (
    "bool | int | float | str | Path | tuple[Value, ...] | list[Value] | Mapping[str, Value] | None"
)


def literal(value: Value) -> str:
    """Write a value as MATLAB source.

    Parameters
    ----------
    value
        None is an empty text. Text and paths: single quotes, those inside doubled, so that nothing
        in a name can end the text. A list is a row ``[a, b]``; a mapping is a ``struct(...)`` and a
        tuple a cell array, in the double braces that ``struct`` asks for.

    Raises
    ------
    ConfigError
        A text with a control character, which MATLAB source cannot hold.
    """
    if value is None:
        return "''"
    if isinstance(value, bool):  # before int, of which it is one
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str | Path):
        return _text(str(value))
    if isinstance(value, Mapping):
        pairs = (part for key, item in value.items() for part in (_text(key), literal(item)))
        return f"struct({', '.join(pairs)})"
    items = ", ".join(map(literal, value))
    return f"{{{{{items}}}}}" if isinstance(value, tuple) else f"[{items}]"


def cell_of_texts(texts: Sequence[str | Path]) -> str:
    """Write texts as a cell array ``{'a','b'}``."""
    return f"{{{','.join(literal(text) for text in texts)}}}"


def row_of_numbers(numbers: Sequence[int]) -> str:
    """Write whole numbers as a row ``[1,2]``."""
    return f"[{','.join(map(str, numbers))}]"


def _text(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ConfigError(
            f"{text!r} has a control character, which cannot be handed to MATLAB; rename the file "
            "or folder, or set processing.engine: native"
        )
    return "'" + text.replace("'", "''") + "'"
