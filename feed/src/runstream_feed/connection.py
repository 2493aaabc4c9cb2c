"""How to reach Kafka, said once for the three clients that are used here: Faust and aiokafka (the same words), and librdkafka.

librdkafka takes its own options as they are. The others get the options that say how to connect; one of those that cannot be carried over is refused, since leaving it
out would connect in another way than was asked for. Tuning options (buffers, compression) concern librdkafka alone and are left out.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_schemas.settings import Settings

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_FAMILIES = ("security.", "sasl.", "ssl.", "enable.ssl.")
_CARRIED = {
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "enable.ssl.certificate.verification",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Where Kafka is and how to log in. `tls` is None where the connection is not encrypted, `mechanism` is None where nobody logs in."""

    servers: tuple[str, ...]
    protocol: str
    mechanism: str | None
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    options: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Connection({','.join(self.servers)}, {self.protocol})"

    def for_librdkafka(self) -> dict[str, str | int | float | bool]:
        """The part of a librdkafka configuration that says where and how."""
        return {"bootstrap.servers": ",".join(self.servers), **self.options}


def connection_of(settings: Settings) -> Connection:
    """The connection that some settings describe; raises SettingsError for an option that cannot be carried over."""
    options = settings.kafka_options
    for name in options:
        if name.startswith(_FAMILIES) and name not in _CARRIED:
            raise SettingsError(f"RUNSTREAM_KAFKA_OPTIONS has {name!r}, which Runstream's readers cannot use: they know {', '.join(sorted(_CARRIED))}")
    protocol = options.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise SettingsError(f"RUNSTREAM_KAFKA_OPTIONS has security.protocol {protocol!r}: expected one of {', '.join(_PROTOCOLS)}")
    mechanism = None
    if protocol.startswith("SASL"):
        mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN"))
        if mechanism not in _MECHANISMS:
            raise SettingsError(f"RUNSTREAM_KAFKA_OPTIONS has sasl.mechanism {mechanism!r}: Runstream's readers know {', '.join(_MECHANISMS)}")
    return Connection(
        servers=tuple(filter(None, (one.strip() for one in settings.kafka.split(",")))),
        protocol=protocol,
        mechanism=mechanism,
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        tls=_tls(options) if protocol.endswith("SSL") else None,
        options=options,
    )


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"), cadata=options.get("ssl.ca.pem"))
        certificate = options.get("ssl.certificate.location")
        if certificate:
            context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password"))
        is_verified = options.get("enable.ssl.certificate.verification", "true").lower() not in ("false", "f", "0")
        if not is_verified or options.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
            context.check_hostname = False
        if not is_verified:
            context.verify_mode = ssl.CERT_NONE
    except OSError as error:
        raise SettingsError(f"RUNSTREAM_KAFKA_OPTIONS names certificates that cannot be read: {error}") from error
    return context


def aiokafka_security(connection: Connection) -> dict[str, Any]:
    """The connection's security in aiokafka's words."""
    out: dict[str, Any] = {"security_protocol": connection.protocol, "ssl_context": connection.tls}
    if connection.mechanism is not None:
        out |= {"sasl_mechanism": connection.mechanism, "sasl_plain_username": connection.username, "sasl_plain_password": connection.password}
    return out
