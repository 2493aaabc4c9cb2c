"""Checked fields: what fits a type, what does not, and what a model of them is."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from runstream_schemas.fields import AfterValidator, Field, FieldError, Model


def doubled(value: int) -> int:
    """Twice the value, unless that is 8."""
    if value == 4:
        raise ValueError("expected anything but 4")
    return 2 * value


class Sample(Model):
    """One field of each kind."""

    text: str = Field(default="abc", description="a text", min_length=2, pattern="^[a-z]+$")
    secret: str | None = Field(default=None, description="a secret", repr=False)
    whole: int = Field(default=5, description="a whole number", ge=1, le=10)
    twice: Annotated[int, AfterValidator(doubled)] = Field(default=1, description="a number that is doubled")
    share: float = Field(default=0.5, description="a number", gt=0.0, le=1.0)
    flag: bool = Field(default=False, description="a flag")
    kind: Literal["one", "two"] = Field(default="one", description="a choice")
    path: Path | None = Field(default=None, description="a path")
    options: dict[str, str] = Field(default_factory=dict, description="texts by name")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "xyz", "xyz"),
        ("whole", "7", 7),
        ("whole", " 7 ", 7),
        ("whole", 7.0, 7),
        ("twice", "3", 6),
        ("share", "0.25", 0.25),
        ("share", 1, 1.0),
        ("flag", "YES", True),
        ("flag", "off", False),
        ("flag", 1, True),
        ("flag", True, True),
        ("kind", "two", "two"),
        ("path", "/a/b", Path("/a/b")),
        ("path", None, None),
        ("secret", None, None),
        ("options", {"a": "b"}, {"a": "b"}),
    ],
)
def test_what_fits(name: str, value: object, expected: object) -> None:
    """Values become what their field's type is."""
    found: Any = getattr(Sample.model_validate({name: value}), name)
    assert found == expected
    assert type(found) is type(expected) or isinstance(expected, Path)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("text", 5, "a text"),
        ("text", "x", "at least 2 characters"),
        ("text", "ABC", "matches"),
        ("text", "abc\n", "matches"),
        ("text", None, "a text"),
        ("whole", "1.5", "a whole number"),
        ("whole", "16M", "a whole number"),
        ("whole", True, "a whole number"),
        ("whole", math.inf, "a whole number"),
        ("whole", 0, "at least 1"),
        ("whole", 11, "at most 10"),
        ("twice", 4, "anything but 4"),
        ("share", "nan", "a finite number"),
        ("share", "1e999", "a finite number"),
        ("share", 10**400, "a finite number"),
        ("share", 0, "more than 0"),
        ("share", "soon", "a finite number"),
        ("flag", "perhaps", "true or false"),
        ("flag", 2, "true or false"),
        ("flag", None, "true or false"),
        ("kind", "three", "'one' or 'two'"),
        ("kind", [], "'one' or 'two'"),
        ("path", 5, "a path"),
        ("options", {"a": 1}, "a table of texts"),
        ("options", "a=b", "a table of texts"),
        ("other", 1, "expected one of text, secret,"),
    ],
)
def test_what_does_not_fit(name: str, value: object, why: str) -> None:
    """The error names the field, what was expected and what came; its own text leaves the value out, which may be a secret."""
    with pytest.raises(FieldError) as caught:
        Sample.model_validate({name: value})
    assert caught.value.name == name
    assert why in caught.value.why
    assert name == "other" or caught.value.value is value
    assert "ABC" not in str(caught.value)
    assert caught.value.by_pattern == (why == "matches")


def test_defaults_are_checked_and_told_apart() -> None:
    """A default goes through the same check as a value, and a model knows which of its fields were given."""
    model = Sample(whole=5, kind="two")
    assert (model.twice, model.whole) == (2, 5)
    assert model.model_fields_set == {"whole", "kind"}
    one, other = Sample(), Sample()
    one.options["a"] = "b"
    assert other.options == {}


def test_a_model_is_frozen_and_comparable() -> None:
    """It cannot be changed; copies with other values are made without a check, and equal those of equal values."""
    model = Sample(text="abc", secret="hunter2")
    with pytest.raises(ValueError, match="frozen"):
        model.text = "xyz"
    changed = model.model_copy(update={"whole": 100})
    assert (model.whole, changed.whole, changed.model_fields_set) == (5, 100, {"text", "secret", "whole"})
    assert changed != model
    assert changed.model_copy(update={"whole": 5}) == model == copy.deepcopy(model) == pickle.loads(pickle.dumps(model))
    assert model != dict(model)
    assert dict(model)["secret"] == "hunter2"
    assert "hunter2" not in repr(model)
    assert "text='abc'" in repr(model)
