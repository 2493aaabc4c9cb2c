"""Who may ask the embedded engine, and within which limits: the default user, who may do all, and the analyst, who reads.

The engine itself has no users. A name and password are looked at here; that an analyst's statements change nothing and stay within the limits is the engine's
own doing, by the setting `readonly` and a settings profile with the bounds that `runstream migrate --analyst` gives its user on a server.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from runstream_local.clickhouse.failures import QueryError
from runstream_sinks.analysts import LIMITS

__all__ = ["ANALYST", "Users", "analyst_settings", "write_profile"]

ANALYST = "analyst"
"""The analyst's name unless told otherwise, and that of the profile."""

_AUTHENTICATION_FAILED = 516


@dataclass(frozen=True, slots=True)
class Users:
    """The analyst's name and password; an empty password is none. The default user has none: whoever reaches this server is on this machine."""

    analyst: str = ANALYST
    password: str = ""

    def reads_only(self, name: str, password: str) -> bool:
        """Whether this is the analyst.

        Raises:
            QueryError: the password is not the analyst's, or nobody has this name.
        """
        if name in ("", "default"):
            return False
        if name == self.analyst and hmac.compare_digest(password.encode(), self.password.encode()):
            return True
        raise QueryError.of(_AUTHENTICATION_FAILED, f"{name}: Authentication failed: password is incorrect, or there is no user with such name")


def analyst_settings() -> dict[str, str]:
    """The settings that hold for an analyst's statements unless they change them within the bounds, without `readonly`."""
    return {name: limit.value for name, limit in LIMITS.items() if name != "readonly"}


def write_profile(folder: Path) -> Path:
    """Writes a configuration of the engine whose profile has the analyst's bounds; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = "".join(
        f"<{name}><min>{escape(limit.bounds[0])}</min><max>{escape(limit.bounds[1])}</max></{name}>"
        for name, limit in LIMITS.items()
        if limit.bounds is not None
    )
    users = folder / "users.xml"
    users.write_text(
        f"<clickhouse><profiles><default/><{ANALYST}><constraints>{bounds}</constraints></{ANALYST}></profiles><quotas><default/></quotas>"
        "<users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default></users></clickhouse>\n",
        encoding="utf-8",
    )
    config = folder / "config.xml"
    config.write_text(f"<clickhouse><users_config>{escape(str(users))}</users_config></clickhouse>\n", encoding="utf-8")
    return config
