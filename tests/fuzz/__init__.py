"""Fuzzing of the readers of events, boxes and sequences: mutated files are read right, or are an InputError that names
the file.

    python -m tests.fuzz evt3 --inputs 100000
    python -m tests.fuzz all --inputs 2000
    python -m tests.fuzz all --guided --inputs 20000    # the extra ``fuzz``: atheris

Inputs are read in forked children with a limit of time and memory, so that a crash or a hang costs one input and is
reported with its number: the same format, seed and number give the same bytes again (``--only``).
"""
