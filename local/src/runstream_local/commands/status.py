"""Shows the parts of the running stack: state, process, uptime, restarts, memory, address; and of those that failed, why."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from runstream_schemas.settings import load

SUMMARY = "show the parts of the running stack"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def run(args: argparse.Namespace) -> int:
    """Prints the state; 0 when every part is healthy, 1 when not or when no stack runs."""
    from runstream_local.overview import HEADINGS, memory_of, rows, troubles
    from runstream_local.stack_file import is_locked, read_stack

    data = load({"home": args.data}).home_dir.absolute()
    record = read_stack(data)
    if record is None:
        state = "starting" if is_locked(data) else "stopped"
        words = "a stack begins to start on" if state == "starting" else "no stack runs on"
        sys.stdout.write(json.dumps({"state": state, "data": str(data)}) + "\n" if args.json else f"{words} {data}\n")
        return 1
    memory = memory_of([record.supervisor, *(part.pid for part in record.parts if part.pid is not None)])
    found = rows(record, now=time.time(), memory=memory)
    if args.json:
        whole = {"state": record.state, "data": str(data), "supervisor": record.supervisor, "settings": dict(record.settings)}
        sys.stdout.write(json.dumps({**whole, "parts": [asdict(row) for row in found]}) + "\n")
    else:
        table = [HEADINGS, *(row.cells() for row in found)]
        widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
        sys.stdout.write(f"{data}: {record.state}, supervisor pid {record.supervisor}\n")
        for line in table:
            sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")
        sys.stdout.writelines(f"{line}\n" for line in troubles(found))
    return 0 if record.state == "running" else 1
