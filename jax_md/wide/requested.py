"""Which results to compute for a `get` argument, before any is computed."""

from .get import Get, canonicalize_get, select


def requested(
    get: Get, allowed: tuple[str, ...], unknown: type[Exception] = ValueError
) -> tuple[str, ...]:
    """Return the names asked for in order; all of `allowed` for None.

    Args:
        get: See `canonicalize_get`.
        allowed: The names there are.
        unknown: What to raise for others.

    Raises:
        ValueError: If a name repeats or none is left.
        TypeError: If `get` is neither None, a string nor a sequence of strings.
    """
    names, _ = canonicalize_get(get)
    if names is None:
        return allowed
    try:
        select("Names", dict.fromkeys(allowed), names)
    except ValueError as error:
        raise unknown(*error.args) from None
    return names
