"""Flax modules as plain functions of parameters."""

from collections.abc import Callable
from typing import Any


def get_apply_fn_and_params(
    module: Any, variables: Any = None
) -> tuple[Callable[..., Any], Any]:
    """Return a flax module as ``f(params, x, **kwargs)``, and its parameters.

    Whatever is not a parameter (running averages, random keys) is held fixed.

    Args:
        module: An ``nnx`` module, or a ``linen`` module with its `variables`.
        variables: What ``module.init`` returned, for ``linen`` modules only.

    Returns:
        ``(f, params)``, for `empirical_ntk_fn`, `linearize` and the like.

    Raises:
        ValueError: If `variables` are missing, or are given for an ``nnx`` module.
        TypeError: If `module` is not a flax module.
        ImportError: If flax is not installed.

    Example:
        >>> from flax import nnx
        >>> f, params = get_apply_fn_and_params(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    """
    try:
        from flax import linen, nnx
    except ImportError as error:
        raise ImportError(
            "`get_apply_fn_and_params` needs flax: pip install 'jax-md[nn]'."
        ) from error

    if isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError(
                "`variables` belong to linen modules; an nnx module holds its own. "
                "Pass the module alone."
            )
        graph, params, rest = nnx.split(module, nnx.Param, ...)

        def apply_nnx(params: Any, *args: Any, **kwargs: Any) -> Any:
            return nnx.merge(graph, params, rest)(*args, **kwargs)

        return apply_nnx, params

    if isinstance(module, linen.Module):
        if variables is None:
            raise ValueError(
                "a linen module has no parameters of its own: pass `variables`, what "
                "`module.init(key, x)` returned."
            )
        fixed = {name: value for name, value in variables.items() if name != "params"}

        def apply_linen(params: Any, *args: Any, rng: Any = None, **kwargs: Any) -> Any:
            rngs = None if rng is None else {"dropout": rng}
            return module.apply({"params": params, **fixed}, *args, rngs=rngs, **kwargs)

        return apply_linen, variables["params"]

    raise TypeError(
        "`module` must be a flax nnx or linen module; got "
        f"{type(module).__name__}. A plain function needs no wrapper."
    )
