"""Starts the embedded stack: Apache Kafka, ClickHouse, topics and tables, a Faust worker, a sink worker, a notifier.

In the foreground it shows the parts until Ctrl-C and then stops them; with --detach it returns once all are healthy, and `runstream down` stops
them. Standard output then holds only what a shell needs:  eval "$(runstream up --detach)"
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from runstream_schemas.settings import Settings, SettingsError, environment_of, load

if TYPE_CHECKING:
    from runstream_local.stack import Stack

SUMMARY = "start the embedded stack"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--detach", action="store_true", help="return once everything is healthy")
    parser.add_argument("--kafka", metavar="SERVERS", help="use this Kafka instead of starting one (RUNSTREAM_KAFKA)")
    parser.add_argument("--clickhouse", metavar="URL", help="use this ClickHouse instead of starting the engine (RUNSTREAM_CLICKHOUSE_URL)")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def run(args: argparse.Namespace) -> int:
    """Runs the stack; 0 after an orderly end or when one runs already, 1 when a part does not come up.

    Raises:
        SettingsError: a setting does not fit, as seen here or by the part that it is for.
    """
    from runstream_local.errors import LocalError, PartError
    from runstream_local.stack_file import is_locked

    settings = load({"home": args.data, "kafka": args.kafka, "clickhouse_url": args.clickhouse})
    data = settings.home_dir.absolute()
    if is_locked(data):
        return _say_running(data)
    stack = _stack(settings, data)
    try:
        return _up(stack, detach=bool(args.detach))
    except LocalError as error:
        stack.stop()
        if is_locked(data):  # somebody else was quicker
            return _say_running(data)
        if isinstance(error, PartError) and error.wrong_settings:
            raise SettingsError(str(error)) from error
        sys.stderr.write(f"runstream up: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopping ...\n")
        stack.stop()
        return 0


def _stack(settings: Settings, data: Path) -> Stack:
    """Prepares the stack; what a setting, variable or file names outside is checked and used, the rest is started here."""
    from runstream_local.outside import check_clickhouse, check_kafka
    from runstream_local.stack import Stack
    from runstream_processors.notify.ways import ways_of

    ways_of(settings)  # says which channel is not what it should be, before anything is started
    kafka = settings.kafka if "kafka" in settings.model_fields_set else None
    clickhouse_url = settings.clickhouse_url if "clickhouse_url" in settings.model_fields_set else None
    if kafka is not None:
        check_kafka(kafka, settings.kafka_options)
    if clickhouse_url is not None:
        check_clickhouse(clickhouse_url)
    return Stack(data=data, kafka=kafka, clickhouse_url=clickhouse_url, settings=environment_of(settings), usual_ports=True)


def _up(stack: Stack, *, detach: bool) -> int:
    from runstream_local import view

    signal.signal(signal.SIGTERM, _interrupt)
    sys.stderr.writelines(f"{notice}\n" for notice in stack.notices)
    started = time.monotonic()
    with view.download() as progress:
        stack.start(detached=detach, progress=progress)
    if detach:
        stack.wait_healthy()
        sys.stderr.write(f"the stack on {stack.data} is up after {time.monotonic() - started:.1f} s\n")
        _say_addresses(stack.data, stack.settings)
        return 0
    # Healthy or not is for the view to show; a part that cannot start ends the supervisor, and `wait_healthy` then says why.
    if view.show(stack):
        stack.wait_healthy(timeout_s=0.0)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _say_running(data: Path) -> int:
    from runstream_local.stack_file import read_stack

    record = read_stack(data)
    who = "" if record is None else f" (supervisor pid {record.supervisor}, {record.state})"
    sys.stderr.write(f"a stack already runs on {data}{who}; `runstream status` shows it, `runstream down` stops it\n")
    if record is not None:
        _say_addresses(data, record.settings)
    return 0


def _say_addresses(data: Path, settings: Mapping[str, str]) -> None:
    """Tells people the addresses on stderr, and the shell on stdout where the stack lives.

    The folder is all that commands and training need, since the addresses are read from it; addresses in the environment would make the next
    `runstream up` take them for services that are not its own.
    """
    sys.stderr.write(f"Kafka       {settings['kafka']}\nClickHouse  {settings['clickhouse_url']}\nlogs        {data / 'logs'}\n")
    sys.stdout.write(f"export RUNSTREAM_HOME={shlex.quote(str(data))}\n")
