"""One embedded broker that is also listened on with TLS, with logins, and with both, with certificates made for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runstream_local.kafka import Broker, java_command, prepare
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port

USER, PASSWORD, STORE_PASSWORD = "trainer", "right-secret", "store-secret"  # of a broker that lives for a test
_LOGIN = {
    "PLAIN": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
}
CLIENTS = "CLIENTS"
"""The listener that wants certificates of its clients."""
PROTOCOLS = {"PLAINTEXT": "PLAINTEXT", "SSL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL", CLIENTS: "SSL"}


@dataclass(frozen=True)
class Secured:
    """Where it is listened on; the authorities of which clients may trust one, its own and a stranger's; a client's certificate that it trusts. Keys lie beside certificates."""

    ports: dict[str, int]
    authority: Path
    stranger: Path
    client: Path

    def address(self, listener: str) -> str:
        """`host:port`, of a name that the certificate has."""
        return f"{HOST}:{self.ports[listener]}"


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=60)


def _certificate(folder: Path, name: str) -> Path:
    """A key with a certificate of its own authority, for loopback, as PEM."""
    path = folder / f"{name}.pem"
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}")
    _run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        folder / f"{name}.key",
        "-out",
        path,
        *subject,
    )
    return path


def prepared(folder: Path) -> tuple[Secured, list[str]]:
    """Writes the broker's folder; returns the listeners, and the command that runs it."""
    jars = ensure_jars()
    ports: dict[str, int] = {}
    for name in (*PROTOCOLS, "CONTROLLER"):
        ports[name] = choose_port(avoid=frozenset(ports.values()))
    authority, stranger, client = (_certificate(folder, name) for name in ("broker", "stranger", "client"))
    store = folder / "broker.p12"
    _run("openssl", "pkcs12", "-export", "-in", authority, "-inkey", folder / "broker.key", "-out", store, "-passout", f"pass:{STORE_PASSWORD}")
    broker = Broker(data=folder / "data", port=ports["PLAINTEXT"], controller_port=ports.pop("CONTROLLER"))
    prepare(broker, jars=jars)
    listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
    more = {
        "listeners": f"{listeners},CONTROLLER://{HOST}:{broker.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in PROTOCOLS.items()) + ",CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": STORE_PASSWORD,
        f"listener.name.{CLIENTS.lower()}.ssl.client.auth": "required",
        f"listener.name.{CLIENTS.lower()}.ssl.truststore.type": "PEM",
        f"listener.name.{CLIENTS.lower()}.ssl.truststore.location": str(client),
        "sasl.enabled.mechanisms": ",".join(_LOGIN),
    }
    for name in ("SASL_PLAINTEXT", "SASL_SSL"):
        for mechanism, module in _LOGIN.items():
            more[f"listener.name.{name.lower()}.{mechanism.lower()}.sasl.jaas.config"] = module
    properties = broker.data / "server.properties"
    kept = [line for line in properties.read_text().splitlines() if line.partition("=")[0] not in more]
    properties.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in more.items())]) + "\n")
    return Secured(ports, authority, stranger, client), java_command(broker, jars=jars)


def add_scram_user(address: str) -> None:
    """Stores the user's SCRAM credentials, over a listener that asks for none; touches confluent_kafka in a process of its own."""
    script = (
        "import sys\n"
        "from confluent_kafka.admin import AdminClient, ScramMechanism, ScramCredentialInfo, UserScramCredentialUpsertion\n"
        "admin = AdminClient({'bootstrap.servers': sys.argv[1]})\n"
        "for kind in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):\n"
        "    kept = UserScramCredentialUpsertion(sys.argv[2], ScramCredentialInfo(kind, 4096), sys.argv[3].encode())\n"
        "    admin.alter_user_scram_credentials([kept])[sys.argv[2]].result(timeout=20)\n"
    )
    _run(sys.executable, "-c", script, address, USER, PASSWORD)
