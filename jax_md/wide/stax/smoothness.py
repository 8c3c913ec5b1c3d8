r"""How often a kernel can be differentiated where its two inputs coincide.

Forces of a Gaussian process need :math:`\partial_x \partial_{x'} k` at :math:`x = x'`.
The kernel of a nonlinearity with a kink behaves there as
:math:`|x - x'|^{2 m + 1}`: it has :math:`m` derivatives in each argument. Beyond, the
true derivative is infinite, and no number that a program returns for it means anything.

Source:
    Y. Cho and L. Saul, NeurIPS 2009, section 2 (the angular kernels of degree n).
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, NamedTuple


class Smoothness(NamedTuple):
    """Derivatives in each argument that exist at coincidence, and the layer to blame.

    Attributes:
        nngp: Number for the covariance of the activations.
        ntk: Number for the neural tangent kernel.
        layer: Name of the least smooth layer.
    """

    nngp: float = inf
    ntk: float = inf
    layer: str = ""


def smoothness_of(kernel_fn: Callable[..., Any]) -> Smoothness | None:
    """Return what is known of `kernel_fn`; None where it is as smooth as its input."""
    return getattr(kernel_fn, "smoothness", None)


def smoothest_common(
    parts: Iterable[Smoothness | None],
) -> Smoothness | None:
    """Return the smoothness of a network with the layers `parts`."""
    known = [p for p in parts if p is not None]
    if not known:
        return None
    return Smoothness(
        min(p.nngp for p in known),
        min(p.ntk for p in known),
        min(known, key=lambda p: p.ntk).layer,
    )


def require_derivatives(
    kernel_fn: Callable[..., Any], get: str = "nngp", order: int = 1
) -> None:
    """Refuse a kernel that lacks derivatives at coincident inputs.

    Call it before differentiating a kernel `order` times in each argument, as a fit to
    forces or a variance of forces does.

    Args:
        kernel_fn: The `kernel_fn` of a network.
        get: ``"nngp"`` or ``"ntk"``.
        order: Derivatives wanted in each of the two arguments: 1 for forces.

    Raises:
        ValueError: If a layer is known to be less smooth than that.
    """
    if get not in ("nngp", "ntk"):
        raise ValueError(f'`get` must be "nngp" or "ntk"; got {get!r}. Pass one.')
    known = smoothness_of(kernel_fn)
    if known is None:
        return
    found = getattr(known, get)
    if found < order:
        raise ValueError(
            f"`get={get!r}` is asked for {order} derivative(s) in each argument, but "
            f"`{known.layer}` leaves it with {found:g} at coincident inputs: beyond, "
            "the mixed derivative grows as an inverse power of the distance and has "
            'no value there. Use `Erf`, `Gelu` or `Sin`, or `get="nngp"` of `Relu` '
            "for one."
        )
