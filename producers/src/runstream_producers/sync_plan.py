"""Which journals a sync ships, and why others are left alone; `sync` does the shipping. Looks at folders and locks, changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_producers import claims, states
from runstream_producers.agent import LOCK_NAME
from runstream_producers.errors import SyncError
from runstream_producers.journal import survey
from runstream_producers.journal.segments import locked
from runstream_producers.paths import agent_folder, journal_root, offline_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Skip:
    """A folder that is left alone, and why."""

    folder: Path
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The journals to ship, the folders that are left alone, and the folders in which new journals may come."""

    journals: tuple[Path, ...]
    skips: tuple[Skip, ...]
    bases: tuple[Path, ...]


def plan(folders: Sequence[Path], settings: Settings, *, watch: bool) -> Plan:
    """What there is to ship in these folders, each a journal, a folder of journals, or the journal root; without any, the offline folder and what an agent that is
    gone left behind. Journals of other connection settings are shipped here only where their folder is named itself.

    Raises:
        SyncError: a folder is not there.
    """
    own = agent_folder(settings)
    bases: list[Path] = []
    singles: list[Path] = []
    skips: list[Skip] = []
    for folder in folders or (offline_folder(settings), own):
        path = folder.expanduser().absolute()
        if not path.is_dir():
            if folders:
                raise SyncError(f"expected a folder of journals, and {path} is none: the journals of this user are in {journal_root(settings)}")
        elif survey.is_journal(path):
            singles.append(path)
        else:
            below = [one for one in sorted(path.iterdir()) if one.is_dir() and survey.journals_in(one)]
            if survey.journals_in(path) or not below:
                bases.append(path)
            for one in below:
                if one.name.startswith("v") and (one / LOCK_NAME).exists() and one != own:
                    skips.append(Skip(one, "its journals belong to other connection settings: name the folder itself to ship them with these"))
                else:
                    bases.append(one)
    served = {base for base in (*bases, *(one.parent for one in singles)) if locked(base / LOCK_NAME)}
    skips += [Skip(base, _by_agent(base)) for base in sorted(served) if survey.journals_in(base)]
    open_bases = tuple(base for base in dict.fromkeys(bases) if base not in served)
    found = [one for one in singles if one.parent not in served]
    found += [one for base in open_bases for one in survey.journals_in(base)]
    journals: list[Path] = []
    for one in dict.fromkeys(found):
        if not os.access(one, os.W_OK):
            skips.append(Skip(one, "this user may not write to it, and what is acknowledged must be written down: copy the folder, or sync as its owner"))
        elif watch or not locked(one / "lock"):
            journals.append(one)
        else:
            skips.append(Skip(one, "its writer is still running: --watch follows it"))
    return Plan(tuple(journals), tuple(skips), open_bases)


def _by_agent(base: Path) -> str:
    """What is said of a folder that an agent serves; where that cannot ship, also how to have another do it."""
    trouble = states.trouble_of(base)
    if not trouble:
        return "an agent ships it already"
    return f"an agent (process {claims.holder(base / LOCK_NAME)}) ships it once it can: {trouble}; to ship it elsewhere, end that process and name the folder"
