"""Frozen dataclasses that are JAX pytrees, with static fields and `.set`."""

import dataclasses as _dataclasses
from collections.abc import Callable
from dataclasses import asdict, astuple, field, fields, is_dataclass, replace
from typing import Any, TypeVar, dataclass_transform, overload

import jax

__all__ = [
    "asdict",
    "astuple",
    "dataclass",
    "field",
    "fields",
    "is_dataclass",
    "replace",
    "static_field",
    "unpack",
]

T = TypeVar("T")


def _set(self: T, **changes: Any) -> T:
    """Return a copy with the named fields replaced."""
    return replace(self, **changes)  # type: ignore[type-var]


def static_field(*, metadata: dict[str, Any] | None = None, **field_kwargs: Any) -> Any:
    """Declare a field that is part of the tree structure: hashable, never traced.

    Two values that differ in a static field have different tree structures, so a
    compiled function is compiled again for the second.
    """
    marks = {**(metadata or {}), "static": True, "pytree_node": False}
    return field(metadata=marks, **field_kwargs)


@overload
def dataclass(
    clz: type[T], *, frozen: bool = True, **dataclass_kwargs: Any
) -> type[T]: ...
@overload
def dataclass(
    clz: None = None, *, frozen: bool = True, **dataclass_kwargs: Any
) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field, static_field))
def dataclass(clz: Any = None, *, frozen: bool = True, **dataclass_kwargs: Any) -> Any:
    """Make a class a frozen dataclass and a pytree; usable bare or with arguments.

    Fields made by `static_field` travel in the tree structure, all others are
    children. The class gets a method ``set(**changes)`` that returns a changed copy,
    unless it defines one itself.

    Args:
        clz: The class, when used as a bare decorator.
        frozen: Must be True: a pytree is a value. Accepted for symmetry with the
            standard library.
        **dataclass_kwargs: Passed to `dataclasses.dataclass`.

    Raises:
        TypeError: If ``frozen=False``.
    """
    if not frozen:
        raise TypeError(
            "a `jax_md.dataclasses.dataclass` is a pytree and must be frozen; got "
            "`frozen=False`. Use `.set(name=value)` to get a changed copy."
        )

    def wrap(cls: Any) -> Any:
        cls = _dataclasses.dataclass(frozen=True, **dataclass_kwargs)(cls)
        names = {True: [], False: []}
        for entry in fields(cls):
            names[bool(entry.metadata.get("static", False))].append(entry.name)
        if "set" not in cls.__dict__:
            cls.set = _set
        return jax.tree_util.register_dataclass(
            cls, data_fields=names[False], meta_fields=names[True]
        )

    return wrap if clz is None else wrap(clz)


def unpack(dc: Any) -> tuple[Any, ...]:
    """Return the field values of a dataclass as a tuple, without recursion."""
    return tuple(getattr(dc, entry.name) for entry in fields(dc))
