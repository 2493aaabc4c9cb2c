"""Models of checked fields, for settings: values come as texts, numbers or objects from arguments, variables and files, and are checked once.

It has the few names of pydantic that settings need, and takes its place: a tracker is a guest, and training environments pin pydantic at other versions; its compiled core cannot be
loaded in subinterpreters, and took two fifths of `import runstream`.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, dataclass_transform

T = TypeVar("T")
_MISSING: Any = object()
_TRUE, _FALSE = frozenset({"1", "true", "t", "yes", "y", "on"}), frozenset({"0", "false", "f", "no", "n", "off"})


class FieldError(ValueError):
    """A value does not fit its field.

    Attributes:
        name: the field.
        why: what was expected, as the end of a sentence.
        value: what came.
        by_pattern: whether it is the field's pattern that the value does not match, which people are better told in words.
    """

    def __init__(self, name: str, why: str, value: object, *, by_pattern: bool = False) -> None:
        super().__init__(f"{name}: {why}")  # Without the value, which may be a secret.
        self.name = name
        self.why = why
        self.value = value
        self.by_pattern = by_pattern


@dataclass(frozen=True, slots=True)
class AfterValidator:
    """In an `Annotated` type: a function that a value goes through once it has its type; it raises ValueError with a sentence."""

    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """What is declared of a field: its default, its meaning, its bounds, and whether it is shown when its model is."""

    default: Any
    default_factory: Callable[[], Any] | None
    description: str
    shown: bool
    ge: float | None
    gt: float | None
    le: float | None
    min_length: int | None
    pattern: str | None

    def get_default(self) -> Any:
        """The default, before it is checked."""
        return self.default if self.default_factory is None else self.default_factory()


def Field(  # noqa: N802 - it stands where a value does
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    description: str,
    repr: bool = True,  # noqa: A002 - the name that dataclasses have for it
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    min_length: int | None = None,
    pattern: str | None = None,
) -> Any:
    """Declares a field: `ge`, `gt` and `le` bound numbers, `min_length` and `pattern` texts; `repr=False` keeps a value from being printed."""
    return FieldInfo(default, default_factory, description, repr, ge, gt, le, min_length, pattern)


@dataclass_transform(kw_only_default=True, field_specifiers=(Field,))
class Model:
    """A frozen object of checked fields. A subclass declares them as `name: type = Field(...)`; types are str, int, float, bool, Path, dict[str, str], a Literal, or one of these or None."""

    model_fields: ClassVar[dict[str, FieldInfo]] = {}
    _checks: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    model_fields_set: set[str]

    def __init_subclass__(cls) -> None:
        hints = typing.get_type_hints(cls, include_extras=True)
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, FieldInfo)}
        cls.model_fields = declared
        cls._checks = {name: _check_of(hints[name]) for name in declared}

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.model_fields:
                raise FieldError(name, f"expected one of {', '.join(self.model_fields)}", name)
        checked = {name: self._checked(name, values[name] if name in values else field.get_default()) for name, field in self.model_fields.items()}
        self.__dict__.update(checked, model_fields_set=set(values))

    @classmethod
    def _checked(cls, name: str, value: object) -> Any:
        field = cls.model_fields[name]
        try:
            found = cls._checks[name](value)
        except ValueError as error:
            raise FieldError(name, str(error), value) from None
        if found is not None:
            if why := _out_of_bounds(field, found):
                raise FieldError(name, why, value)
            # Python's `$` matches before a last line break, too.
            if field.pattern is not None and (re.search(field.pattern, found) is None or found.endswith("\n")):
                raise FieldError(name, f"expected a text that matches {field.pattern}", value, by_pattern=True)
        return found

    @classmethod
    def model_validate(cls, values: Mapping[str, Any]) -> Self:
        """A model of these values and the defaults; raises FieldError for the first that does not fit."""
        return cls(**values)

    @classmethod
    def model_construct(cls, _fields_set: set[str], **values: Any) -> Self:
        """A model of values that need no check; `_fields_set` names those that were given."""
        made = cls.__new__(cls)
        made.__dict__.update({name: field.get_default() for name, field in cls.model_fields.items()} | values, model_fields_set=set(_fields_set))
        return made

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """A copy with other values, which are not checked."""
        return self.model_construct(self.model_fields_set | update.keys(), **(dict(self) | dict(update)))

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, self.__dict__[name]) for name in self.model_fields)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and dict(self) == dict(cast("Model", other))

    def __setattr__(self, name: str, value: object) -> None:
        raise FieldError(name, "the model is frozen: make a copy with model_copy", value)

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self if self.model_fields[name].shown)
        return f"{type(self).__name__}({', '.join(shown)})"


def _out_of_bounds(field: FieldInfo, found: Any) -> str:
    if field.ge is not None and found < field.ge:
        return f"expected at least {field.ge}"
    if field.gt is not None and found <= field.gt:
        return f"expected more than {field.gt}"
    if field.le is not None and found > field.le:
        return f"expected at most {field.le}"
    if field.min_length is not None and len(found) < field.min_length:
        return f"expected a text of at least {field.min_length} characters"
    return ""


# ---- types: each check gives a value of its type, or raises ValueError with what was expected ----------------------------------------------


def _check_of(kind: Any) -> Callable[[Any], Any]:
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is Annotated:
        return _then(_check_of(arguments[0]), [one.function for one in arguments[1:] if isinstance(one, AfterValidator)])
    if origin in (types.UnionType, typing.Union):
        [inner] = [one for one in arguments if one is not type(None)]
        return _or_none(_check_of(inner))
    if origin is Literal:
        return _one_of(arguments)
    if origin is dict:
        return _texts
    return _PLAIN[kind]


def _then(first: Callable[[Any], Any], functions: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        found = first(value)
        for function in functions:
            found = function(found)
        return found

    return check


def _or_none(inner: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else inner(value)


def _one_of(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"expected {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
        return value

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a table of texts")
    given = cast("Mapping[Any, Any]", value)
    if not all(isinstance(key, str) and isinstance(one, str) for key, one in given.items()):
        raise ValueError("expected a table of texts")
    return dict(given)


def _integer(value: Any) -> int:
    try:
        if not isinstance(value, bool) and (isinstance(value, (str, int)) or (isinstance(value, float) and value.is_integer())):
            return int(value)
    except ValueError:
        pass
    raise ValueError("expected a whole number")


def _number(value: Any) -> float:
    try:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a finite number")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, (str, int)) else ""
    if text not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return text in _TRUE


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise ValueError("expected a path")
    return Path(value)


_PLAIN: dict[Any, Callable[[Any], Any]] = {str: _text, int: _integer, float: _number, bool: _flag, Path: _path}
