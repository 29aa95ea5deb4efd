"""State-space models for event cameras: from raw events to mean average precision.

The folders follow the data: ``events`` → ``dataset`` → ``ssm`` → ``detector`` →
``evaluation`` → ``training`` → ``live`` → ``study``.
"""
