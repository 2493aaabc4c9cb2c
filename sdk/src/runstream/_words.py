"""Words that commands share."""


def who(kind: str, rank: int) -> str:
    """A writer in words: `rank 3`, or `hardware of rank 3` for what an agent logs beside it."""
    return f"rank {rank}" if kind == "rank" else f"{kind or 'a writer'} of rank {rank}"


def state_of(kind: str, state: str) -> str:
    """A writer's state in words. Hardware that ends without a word had its agent killed, which takes nothing from the run: the next agent goes on as another writer."""
    return "agent killed" if (kind, state) == ("hardware", "crashed") else state or "?"
