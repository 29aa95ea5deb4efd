"""What is read from the words of a command line."""

import ast
from typing import Any


def literal(text: str) -> Any:
    """A parameter's value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
