"""Options for librdkafka, carried over or refused; and settings errors as a process says them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runstream_feed.connection import aiokafka_security, connection_of
from runstream_schemas.settings import Settings, SettingsError


def settings(**options: str) -> Settings:
    """Settings with some librdkafka options; underscores stand for dots."""
    return Settings(kafka="a:9092, b:9092", kafka_options={name.replace("_", "."): value for name, value in options.items()})


def test_a_plain_connection_is_the_default() -> None:
    """No options: no login, no encryption, every server."""
    connection = connection_of(settings())
    assert (connection.servers, connection.protocol, connection.mechanism, connection.tls) == (("a:9092", "b:9092"), "PLAINTEXT", None, None)
    assert connection.for_librdkafka() == {"bootstrap.servers": "a:9092,b:9092"}


def test_login_and_encryption_are_carried_over() -> None:
    """SASL over TLS reaches aiokafka's words; tuning options stay librdkafka's; the password is not shown."""
    connection = connection_of(
        settings(security_protocol="sasl_ssl", sasl_mechanisms="SCRAM-SHA-512", sasl_username="u", sasl_password="secret", linger_ms="5")
    )
    words = aiokafka_security(connection)
    assert (words["security_protocol"], words["sasl_mechanism"], words["sasl_plain_username"]) == ("SASL_SSL", "SCRAM-SHA-512", "u")
    assert words["ssl_context"] is connection.tls is not None
    assert "secret" not in repr(connection)
    assert connection.for_librdkafka()["linger.ms"] == "5"


@pytest.mark.parametrize(
    ("name", "value"),
    [("sasl_kerberos_principal", "x"), ("security_protocol", "QUIC"), ("ssl_ca_location", "/nowhere.pem"), ("ssl_keystore_location", "keys.p12")],
)
def test_what_cannot_be_carried_over_is_refused(name: str, value: str) -> None:
    """The sentence names the setting and the option: leaving a security option out would connect in another way than was asked for."""
    given = {name: value} | ({"security_protocol": "SSL"} if name == "ssl_ca_location" else {})
    with pytest.raises(SettingsError, match="RUNSTREAM_KAFKA_OPTIONS"):
        connection_of(settings(**given))


@pytest.mark.parametrize("part", ["worker", "notify"])
@pytest.mark.parametrize(("name", "value"), [("RUNSTREAM_RULES_WIAT", "3"), ("RUNSTREAM_RULES_WAIT", "soon"), ("RUNSTREAM_KAFKA_OPTIONS", "sasl.magic=1")])
def test_wrong_settings_are_one_sentence(part: str, name: str, value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exit code 2, one line that names the variable, no traceback."""
    environment = {**os.environ, "RUNSTREAM_HOME": str(tmp_path_factory.mktemp("home")), name: value}
    done = subprocess.run([sys.executable, "-m", "runstream_processors", part], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr
