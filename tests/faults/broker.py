"""The embedded broker, told to its clients under another port: `python -m tests.faults.broker --advertised PORT ...`, where a proxy listens that passes everything on to it."""

from __future__ import annotations

import argparse

from runstream_local import kafka
from runstream_local.ports import HOST


def main() -> None:
    """Becomes the broker, with the arguments of `runstream_local.kafka`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--advertised", type=int, required=True)
    known, rest = parser.parse_known_args()
    plain = kafka.server_properties
    # Clients reconnect to where the broker says it is, so that it must say where the proxy is.
    kafka.server_properties = lambda broker: plain(broker) | {"advertised.listeners": f"PLAINTEXT://{HOST}:{known.advertised}"}
    kafka.main(rest)


if __name__ == "__main__":
    main()
