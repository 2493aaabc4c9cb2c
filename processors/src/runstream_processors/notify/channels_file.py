"""Where channels come from: a TOML file with a table for each, and the settings `webhook` and `notify`.

Addresses and secrets may stand in the file, in a variable that it names (`url_env`), or in a file of their own (`url_file`). Nothing of them is ever repeated in an error.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from runstream_processors.notify.channels import SEVERITIES, Channel, Policy, Secret
from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_processors.notify.channels import Kind
    from runstream_schemas.records import Severity
    from runstream_schemas.settings import Settings

FILE = "channels.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.IGNORECASE)
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,62})=(?P<url>[A-Za-z0-9+.-]+://.*)")
_ADDRESSES: tuple[tuple[str, Kind], ...] = (("webhook", "webhook"), ("url", "apprise"))
_WAYS = ("", "_env", "_file")
# The least and the greatest that each figure of a policy may be.
_BOUNDS: dict[str, tuple[float, float]] = {
    "wait_s": (0.0, 60.0),
    "wait_max_s": (0.0, 600.0),
    "group_s": (0.0, 86_400.0),
    "per_minute": (0.01, 60_000.0),
    "burst": (1, 10_000),
    "timeout_s": (0.1, 60.0),
    "budget_s": (0.0, 3600.0),
    "pending_max": (1, 100_000),
}
_KEYS = frozenset({"severity", *_BOUNDS, *(f"{name}{way}" for name in ("url", "webhook", "secret") for way in _WAYS)})


def channels_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, Channel]:
    """The channels of a deployment, by name.

    Raises:
        SettingsError: a file is not there or not TOML, or a channel is not what it should be; one sentence that names it and repeats no value.
    """
    path = settings.channels or settings.home / FILE
    found: dict[str, Channel] = {}
    if settings.channels is not None or path.exists():
        for name, table in _tables(path).items():
            found[name] = _channel(path, name, table, environ)
    for channel in _from_settings(settings):
        if channel.name in found:
            raise SettingsError(f"channel {channel.name!r} is there twice: in {path}, or in RUNSTREAM_WEBHOOK and RUNSTREAM_NOTIFY; names must differ")
        found[channel.name] = channel
    return found


def _from_settings(settings: Settings) -> list[Channel]:
    out: list[Channel] = []
    if settings.webhook:
        secret = None if settings.webhook_secret is None else Secret(settings.webhook_secret)
        out.append(Channel("webhook", "webhook", "webhook", Secret(settings.webhook), secret, place="RUNSTREAM_WEBHOOK"))
    unnamed = 0
    for word in (settings.notify or "").split():
        named = _NAMED.fullmatch(word)
        if named is None:
            unnamed += 1
        name = named["name"] if named else "notify" if unnamed == 1 else f"notify-{unnamed}"
        url = named["url"] if named else word
        out.append(Channel(name, "apprise", scheme_of(url, f"channel {name!r} in RUNSTREAM_NOTIFY"), Secret(url), place="RUNSTREAM_NOTIFY"))
    return out


def _tables(path: Path) -> dict[str, dict[str, object]]:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"RUNSTREAM_CHANNELS names a file of channels that is not there: {path}") from None
    except tomllib.TOMLDecodeError as error:
        # Only the place of the mistake: the text around it may be a secret.
        place = re.search(r"\(at .*\)", str(error))
        raise SettingsError(f"the file of channels {path} cannot be read as TOML{f' {place[0]}' if place else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file of channels {path} cannot be read: {type(error).__name__}") from None
    for name, table in read.items():
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            raise SettingsError(f"{path} must have a table for each channel, such as [ops], with a name of letters, digits, dots, underscores and dashes")
    return cast("dict[str, dict[str, object]]", read)


def _channel(path: Path, name: str, table: Mapping[str, object], environ: Mapping[str, str]) -> Channel:
    shown, folder = f"channel {name!r} in {path}", path.parent
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise SettingsError(f"{shown} has {unknown[0]!r}: expected some of {', '.join(sorted(_KEYS))}")
    given: list[tuple[Kind, Secret]] = []
    for key, kind in _ADDRESSES:
        address = _secret(shown, key, table, folder, environ)
        if address is not None:
            given.append((kind, address))
    if len(given) != 1:
        raise SettingsError(f"{shown} must have one address: webhook for a webhook, or url for an address of Apprise (each also as _env or _file)")
    [(kind, address)] = given
    secret = _secret(shown, "secret", table, folder, environ)
    if secret is not None and kind != "webhook":
        raise SettingsError(f"{shown} has a secret, which signs webhooks only: an address of Apprise carries its own")
    severity: Severity | None = next((one for one in SEVERITIES if one == table.get("severity", "info")), None)
    if severity is None:
        raise SettingsError(f"{shown} must have a severity of {', '.join(SEVERITIES)}, the least that it takes")
    way = scheme_of(address.reveal(), shown)
    if kind == "webhook":
        if way not in ("http", "https") or not urlsplit(address.reveal()).hostname:
            raise SettingsError(f"{shown} must have a webhook that begins with http:// or https://")
        way = "webhook"
    return Channel(name, kind, way, address, secret, severity, _policy(shown, table), place=str(path))


def _policy(shown: str, table: Mapping[str, object]) -> Policy:
    given: dict[str, float] = {}
    for one in fields(Policy):
        if one.name not in table:
            continue
        value, (least, most) = table[one.name], _BOUNDS[one.name]
        whole = isinstance(_BOUNDS[one.name][0], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not math.isfinite(value) or not least <= value <= most:
            raise SettingsError(f"{shown} must have a {one.name} from {least:g} to {most:g}{', whole' if whole else ''}")
        given[one.name] = value
    return Policy(**given)  # pyright: ignore[reportArgumentType]  # the fields are given by name, and checked above


def scheme_of(url: str, shown: str) -> str:
    """The scheme of an address in small letters, which is all of it that may be shown; raises SettingsError."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if found is None:
        raise SettingsError(f"{shown} must have an address such as slack://... or https://..., and it has none with a scheme")
    return found[1].lower()


def _secret(shown: str, key: str, table: Mapping[str, object], folder: Path, environ: Mapping[str, str]) -> Secret | None:
    """What stands under a key, or in the variable or the file that it names; None where it is left out."""
    given = [f"{key}{way}" for way in _WAYS if f"{key}{way}" in table]
    if not given:
        return None
    if len(given) > 1:
        raise SettingsError(f"{shown} has {' and '.join(given)}: expected one of them")
    value = table[given[0]]
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{shown} must have text as {given[0]}")
    if given[0].endswith("_env"):
        text = environ.get(value, "")
        if not text.strip():
            raise SettingsError(f"{shown} takes its {key} from the variable that {given[0]} names, and that is not set")
        return Secret(text.strip())
    if given[0].endswith("_file"):
        path = folder / Path(value).expanduser()
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{shown} takes its {key} from the file that {given[0]} names, and that cannot be read: {type(error).__name__}") from None
        if not text:
            raise SettingsError(f"{shown} takes its {key} from the file that {given[0]} names, and that is empty")
        return Secret(text)
    return Secret(value.strip())
