"""Where channels come from, what is said of mistakes, and `runstream notify`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runstream_processors.notify.channels import Policy, Secret
from runstream_processors.notify.channels_file import channels_of
from runstream_processors.notify.signature import sign
from runstream_processors.notify.ways import ways_of
from runstream_schemas.settings import Settings, SettingsError
from tests.processors.notify_servers import serving

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "hunter2hunter2"


def settings_of(folder: Path, text: str | None = None, **fields: object) -> Settings:
    """Settings with a file of channels in their home."""
    if text is not None:
        (folder / "channels.toml").write_text(text, encoding="utf-8")
    return Settings.model_validate({"home": folder, **fields})


def refusal(folder: Path, text: str | None = None, environ: Mapping[str, str] | None = None, **fields: object) -> str:
    """The sentence that wrong channels give; it never has the token."""
    with pytest.raises(SettingsError) as caught:
        channels_of(settings_of(folder, text, **fields), environ or {})
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFile:
    def test_a_table_is_a_channel(self, tmp_path: Path) -> None:
        """Addresses and secrets stand in the file, in a variable or in a file of their own; the rest has defaults."""
        (tmp_path / "hook.secret").write_text("s3cret\n")
        text = '[ops]\nurl_env = "SLACK"\nseverity = "warning"\nper_minute = 5\n\n[hook]\nwebhook = "https://u:p@x/y"\nsecret_file = "hook.secret"\nburst = 3\n'
        found = channels_of(settings_of(tmp_path, text), {"SLACK": "Slack://a/b/c "})
        ops, hook = found["ops"], found["hook"]
        assert (ops.kind, ops.way, ops.severity, ops.address.reveal(), ops.policy) == ("apprise", "slack", "warning", "Slack://a/b/c", Policy(per_minute=5))
        assert hook.secret is not None
        assert (hook.kind, hook.way, hook.secret.reveal(), hook.policy.burst) == ("webhook", "webhook", "s3cret", 3)
        assert ops.takes("critical")
        assert not ops.takes("info")

    def test_the_environment_names_channels_too(self, tmp_path: Path) -> None:
        """Without names they are webhook, notify, notify-2; with the file they must differ."""
        settings = settings_of(tmp_path, webhook="http://x/y", webhook_secret="s", notify="json://a mail=mailto://u:p@b xml://c")
        found = channels_of(settings, {})
        assert {name: one.way for name, one in found.items()} == {"webhook": "webhook", "notify": "json", "mail": "mailto", "notify-2": "xml"}
        assert found["webhook"].secret is not None
        assert "is there twice" in refusal(tmp_path, '[mail]\nurl = "json://x"\n', notify="mail=json://a")
        assert channels_of(settings_of(tmp_path / "nowhere"), {}) == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (f'[ops]\nurl = "slack://{TOKEN}\n', "cannot be read as TOML (at line 2"),
            (f'ops = "{TOKEN}"', "must have a table for each channel"),
            ('["a b"]\nurl = "json://x"', "must have a table for each channel"),
            (f'[ops]\nurll = "{TOKEN}"', "has 'urll': expected some of budget_s, burst"),
            ("[ops]\nburst = 1", "must have one address"),
            (f'[ops]\nurl = "json://{TOKEN}"\nwebhook = "http://x"', "must have one address"),
            (f'[ops]\nurl = "json://{TOKEN}"\nurl_env = "X"', "has url and url_env: expected one of them"),
            (f'[ops]\nurl = "{TOKEN}"', "must have an address such as slack://"),
            (f'[ops]\nwebhook = "ftp://{TOKEN}"', "begins with http:// or https://"),
            (f'[ops]\nwebhook = "http:///{TOKEN}"', "begins with http:// or https://"),
            (f'[ops]\nurl_env = "{TOKEN}"', "the variable that url_env names, and that is not set"),
            (f'[ops]\nurl_file = "{TOKEN}"', "the file that url_file names, and that cannot be read: FileNotFoundError"),
            ("[ops]\nurl = 5", "must have text as url"),
            (f'[ops]\nurl = "json://{TOKEN}"\nsecret = "x"', "signs webhooks only"),
            ('[ops]\nurl = "json://x"\nseverity = "bad"', "a severity of info, warning, critical"),
            ('[ops]\nurl = "json://x"\nburst = 1.5', "a burst from 1 to 10000, whole"),
            ('[ops]\nurl = "json://x"\nper_minute = 0', "a per_minute from 0.01 to 60000"),
            ('[ops]\nurl = "json://x"\ntimeout_s = nan', "a timeout_s from 0.1 to 60"),
            ('[ops]\nurl = "json://x"\ngroup_s = true', "a group_s from 0 to 86400"),
        ],
        ids=[
            "toml", "no-table", "name", "key", "no-address", "two-addresses", "twice", "scheme", "ftp", "host", "variable", "file", "number", "signed-apprise",
            "severity", "part", "zero", "nan", "truth",
        ],
    )  # fmt: skip
    def test_mistakes_are_told_without_what_was_written(self, tmp_path: Path, text: str, said: str) -> None:
        """One sentence that names the channel or the file, says what was expected, and repeats no value."""
        assert said in refusal(tmp_path, text)

    def test_other_mistakes(self, tmp_path: Path) -> None:
        """A file that is not there, an empty one, an address that Apprise does not take."""
        assert "names a file of channels that is not there" in refusal(tmp_path, channels=tmp_path / "none.toml")
        (tmp_path / "empty").write_text("\n")
        assert "that is empty" in refusal(tmp_path, '[ops]\nurl_file = "empty"')
        assert "RUNSTREAM_NOTIFY must have an address such as" in refusal(tmp_path / "x", notify=TOKEN)

    def test_secrets_do_not_print(self, tmp_path: Path) -> None:
        """Neither alone nor in what holds them."""
        found = channels_of(settings_of(tmp_path, f'[ops]\nwebhook = "http://{TOKEN}"\nsecret = "{TOKEN}"'), {})
        assert TOKEN not in f"{found} {Secret(TOKEN)!s} {Secret(TOKEN)!r}"


# Apprise imports a module that Python deprecates, to read the kind of attached pictures.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_addresses_that_apprise_does_not_take_are_told(tmp_path: Path) -> None:
    """Of a kind that it does not know, or not complete: with the channel's name and without the address."""
    for notify, said in ((f"ops=nonsense://{TOKEN}", "it knows no nonsense://"), (f"ops=pagerduty://{TOKEN}", "an address that Apprise does not take")):
        with pytest.raises(SettingsError, match=said) as caught:
            ways_of(settings_of(tmp_path, notify=notify))
        assert TOKEN not in str(caught.value)
        assert "channel 'ops' in RUNSTREAM_NOTIFY" in str(caught.value)


PAGE = (Path(__file__).parents[2] / "docs" / "notify.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first example of the page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


class TestPage:
    def test_its_file_is_one(self, tmp_path: Path) -> None:
        """The example of docs/notify.md makes the channels that it speaks of."""
        (tmp_path / "pagerduty").write_text("pagerduty://key@key?action=map")
        text = block("toml").replace("/run/secrets", str(tmp_path))
        found = channels_of(settings_of(tmp_path, text), {"OPS_SLACK": "slack://a/b/c", "HOOK_SECRET": "s"})
        assert {name: one.way for name, one in found.items()} == {"ops": "slack", "mail": "mailto", "pager": "pagerduty", "hook": "webhook"}

    def test_its_check_of_signatures_works(self) -> None:
        """The few lines of docs/notify.md know a genuine body from another."""
        names: dict[str, Any] = {}
        exec(block("python"), names)
        header = sign(b"secret", b"{}", int(time.time()))
        assert names["is_genuine"](b"secret", b"{}", header)
        assert not names["is_genuine"](b"secret", b"[]", header)
        assert not names["is_genuine"](b"secret", b"{}", sign(b"secret", b"{}", 1_700_000_000))

    def test_its_defaults_are_those_that_hold(self) -> None:
        """Each figure of a policy has its line, with its default."""
        told = {
            name: float(number.replace(",", ""))
            for names, numbers in re.findall(r"^\| ([`\w, ]+?) \| ([\d., ]+?) \|", PAGE, re.MULTILINE)
            for name, number in zip(re.findall(r"`(\w+)`", names), re.split(r", (?=\d)", numbers), strict=True)
        }
        assert told == {name: float(getattr(Policy(), name)) for name in Policy.__dataclass_fields__}


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`runstream notify`, in a process of its own."""
    env = {"PATH": "/usr/bin:/bin", "RUNSTREAM_HOME": str(folder), **environment}
    return subprocess.run([sys.executable, "-m", "runstream.cli", "notify", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(tmp_path: Path) -> None:
    """`ls` shows no address; `test` sends one message and says what came of it; mistakes are one sentence and 2."""
    with serving(403) as server:
        (tmp_path / "channels.toml").write_text(f'[hook]\nwebhook = "{server.url}?token={TOKEN}"\nsecret = "{TOKEN}"\n[other]\nwebhook = "{server.url}"\n')
        listed = call(tmp_path, "ls", "--json")
        assert [one["name"] for one in json.loads(listed.stdout)["channels"]] == ["hook", "other"]
        refused = call(tmp_path, "test", "hook", "--json")
        assert (refused.returncode, json.loads(refused.stdout)["reason"]) == (1, "it answered 403")
        taken = call(tmp_path, "test", "other")
        assert (taken.returncode, taken.stderr) == (0, "")
        assert taken.stdout.startswith("other (webhook) took it in ")
        assert [post.body["type"] for post in server.posts] == ["test", "test"]
        missing = call(tmp_path, "test", "ops")
        assert (missing.returncode, missing.stderr) == (2, "runstream notify: there is no channel 'ops': there are hook, other\n")
        assert TOKEN not in listed.stdout + refused.stdout + refused.stderr + taken.stdout
