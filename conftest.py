"""Chapters run under pytest without progress bars, whose text would be part of the outputs that are compared."""

import os

os.environ["TQDM_DISABLE"] = "1"
