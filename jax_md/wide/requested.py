"""Which results to compute for a `get` argument, before any is computed."""

from .get import Get, canonicalize_get, select


def requested(get: Get, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names asked for in order; all of `allowed` for None.

    Raises:
        ValueError: If a name is not among `allowed`, repeats or none is left.
        TypeError: If `get` is neither None, a string nor a sequence of strings.
    """
    names, _ = canonicalize_get(get)
    if names is None:
        return allowed
    select("Names", dict.fromkeys(allowed), names)
    return names
