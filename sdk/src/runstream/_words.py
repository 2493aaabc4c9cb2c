"""Words that commands share."""


def who(kind: str, rank: int) -> str:
    """A writer in words: `rank 3`, or `hardware of rank 3` for what an agent logs beside it."""
    return f"rank {rank}" if kind == "rank" else f"{kind or 'a writer'} of rank {rank}"
