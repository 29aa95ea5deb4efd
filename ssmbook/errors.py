"""The error that is raised for invalid input; its message names the value and the remedy."""

LONGEST = 1000  # characters of a message


class InputError(ValueError):
    """A user's mistake: a missing, foreign or damaged file, or a value out of range.

    The message is one line that names the file, the offset or the value, and the remedy. Characters that do not
    print are shown as escapes, and of a message beyond 1,000 characters the middle is left out. The command line
    prints it and exits with code 1; in a notebook it is an ordinary ValueError.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message), LONGEST))


def one_line(text: str, longest: int = 100) -> str:
    """Text as one line of at most ``longest`` characters: what does not print as escapes, the middle left out."""
    if len(text) > 4 * longest:  # before the work, which is longer for longer text
        text = text[: 2 * longest] + text[-2 * longest :]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 3]} … {text[-tail:]}"


def shown(value: object, longest: int = 60) -> str:
    """A value from someone's file, for a message: its repr, as one line and cut to ``longest`` characters."""
    if isinstance(value, str | bytes):
        value = value[: longest + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested too deep
        text = f"a value of type {type(value).__name__}"
    return one_line(text, longest)
