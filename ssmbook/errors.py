"""The one error that means: what you gave is wrong, and here is which value and what to do."""


class InputError(ValueError):
    """A user's mistake: a missing, foreign or damaged file, or a value out of range.

    The message is one line that names the file, the offset or the value, and the remedy. The command
    line prints it and exits with code 2; in a notebook it is an ordinary ValueError.
    """
