"""Every closed form against quadrature, and derivatives where inputs coincide."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import batch, stax
from jax_md.wide.stax.elementwise.quadrature import derivative

SMOOTH = {
    "Erf": stax.Erf(1.3, 0.8, 0.2),
    "Sigmoid_like": stax.Sigmoid_like(),
    "Gelu": stax.Gelu(),
    "Sin": stax.Sin(1.2, 0.7, 0.3),
    "Cos": stax.Cos(1.2, 0.7, 0.3),
    "Rbf": stax.Rbf(0.6),
    "Gaussian": stax.Gaussian(1.1, -0.4),
    "Exp": stax.Exp(0.9, 0.5),
    "Gabor": stax.Gabor(),
    "Monomial0": stax.Monomial(0),
    "Monomial1": stax.Monomial(1),
    "Monomial2": stax.Monomial(2),
    "Monomial3": stax.Monomial(3),
    "Monomial4": stax.Monomial(4),
    "Monomial5": stax.Monomial(5),
    "Polynomial": stax.Polynomial([0.3, -0.5, 0.2, 0.7, 0.1]),
}
# name -> layer, derivative of the nonlinearity
KINKED = {
    "Relu": (stax.Relu(), lambda x: 1.0 * (x > 0)),
    "Relu_stabilized": (stax.Relu(do_stabilize=True), lambda x: 1.0 * (x > 0)),
    "LeakyRelu": (stax.LeakyRelu(0.3), lambda x: jnp.where(x > 0, 1, 0.3)),
    "ABRelu": (stax.ABRelu(-0.5, 1.5), lambda x: jnp.where(x > 0, 1.5, -0.5)),
    "Abs": (stax.Abs(), jnp.sign),
    "Sign": (stax.Sign(), jnp.zeros_like),
    "Rectified0": (stax.RectifiedMonomial(0), jnp.zeros_like),
    "Rectified1": (stax.RectifiedMonomial(1), lambda x: 1.0 * (x > 0)),
    "Rectified2": (stax.RectifiedMonomial(2), lambda x: 2 * x * (x > 0)),
    "Rectified3": (stax.RectifiedMonomial(3), lambda x: 3 * x**2 * (x > 0)),
    "Rectified5": (stax.RectifiedMonomial(5), lambda x: 5 * x**4 * (x > 0)),
}
LAYERS = SMOOTH | {name: layer for name, (layer, _) in KINKED.items()}
# Other members of families of which one stays in the fast ring.
SLOW = ("Monomial0", "Monomial1", "Monomial2", "Monomial4", "Monomial5",
        "Rectified0", "Rectified1", "Rectified3", "Rectified5")  # fmt: skip


def slow(*values, **options):
    return pytest.param(*values, marks=pytest.mark.slow, **options)


X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.random.default_rng(1).normal(size=(3, 3))


def affine_covariances():
    """Variances and covariances after `Dense(1, 1.1, 0.3)`, by hand."""

    def cov(a, b):
        return 1.1**2 * a @ b.T / 3 + 0.3**2

    return np.diag(cov(X, X)), np.diag(cov(Y, Y)), cov(X, Y)


def smooth_expectation(f, g, p, q, c, deg=80):
    """E[f(u) g(v)] over a square grid of Gauss-Hermite nodes."""
    z, w = np.polynomial.hermite_e.hermegauss(deg)
    w = w / np.sqrt(2 * np.pi)
    u = np.sqrt(p) * z[:, None]
    v = c / np.sqrt(p) * z[:, None] + np.sqrt(q - c * c / p) * z[None]
    return np.sum(w[:, None] * w[None] * np.asarray(f(u) * g(v)))


def kinked_expectation(f, g, p, q, c, deg=60):
    """E[f(u) g(v)] in polar coordinates, cut where an argument changes sign."""
    # u = r a(t), v = r b(t): sign changes are rays, between which all is smooth.
    psi = np.arctan2(np.sqrt(p * q - c * c), c)

    def a(t):
        return np.sqrt(p) * np.cos(t)

    def b(t):
        return np.sqrt(q) * np.cos(t - psi)

    cuts = np.sort(np.mod([np.pi / 2, -np.pi / 2, psi + np.pi / 2, psi - np.pi / 2],
                          2 * np.pi))  # fmt: skip
    x, w = np.polynomial.legendre.leggauss(deg)
    r, wr = np.polynomial.legendre.leggauss(200)
    r, wr = 7 * (r + 1), 7 * wr
    total = 0.0
    for left, right in zip(cuts, [*cuts[1:], cuts[0] + 2 * np.pi], strict=True):
        t = left + (right - left) * (x + 1) / 2
        values = np.asarray(f(r[:, None] * a(t)) * g(r[:, None] * b(t)))
        radial = (wr * r * np.exp(-r * r / 2)) @ values / (2 * np.pi)
        total += radial @ w * (right - left) / 2
    return total


@cache
def kernels(are_slow):
    """Kernels of the layers, and slopes of T in c, in one compilation for a ring."""
    names = [name for name in LAYERS if (name in SLOW) == are_slow]

    def one(layer, X, Y):
        k = stax.Dense(1, 1.1, 0.3)[2](X, Y)

        def nngp(c):
            return layer[2](k.replace(nngp=c), get="nngp")

        _, slope = jax.jvp(nngp, (k.nngp,), (jnp.ones_like(k.nngp),))
        alone = layer[2](stax.Dense(1, 1.1, 0.3)[2](X), get="nngp")
        return layer[2](k), slope * k.nngp, jnp.diagonal(alone)

    def every(X, Y):
        return {name: one(LAYERS[name], X, Y) for name in names}

    return jax.jit(every)(X, Y)


@pytest.mark.parametrize("name", [slow(n) if n in SLOW else n for n in LAYERS])
def test_closed_form_is_the_expectation(name):
    layer = LAYERS[name]

    def fn(x):
        return layer[1]((), jnp.asarray(x))

    if name in KINKED:
        expectation, d_fn = kinked_expectation, KINKED[name][1]
    else:
        expectation, d_fn = smooth_expectation, derivative(fn)

    def slope_fn(x):
        return d_fn(jnp.asarray(x))

    k, slope_times_c, diagonal = kernels(name in SLOW)[name]
    p, q, c = affine_covariances()
    for i in range(2):
        for j in range(2):
            T = expectation(fn, fn, p[i], q[j], c[i, j])
            slope = expectation(slope_fn, slope_fn, p[i], q[j], c[i, j])
            assert float(k.nngp[i, j]) == pytest.approx(T, rel=1e-10, abs=1e-11)
            ntk = slope * c[i, j]  # the tangent kernel after `Dense` is K itself
            assert float(k.ntk[i, j]) == pytest.approx(ntk, rel=1e-10, abs=1e-11)
    # Variances: the same unit twice, so an expectation in one dimension.
    near = [expectation(fn, fn, v, v, v * (1 - 1e-13)) for v in p]
    np.testing.assert_allclose(k.cov1, near, rtol=1e-6)
    np.testing.assert_allclose(diagonal, k.cov1, rtol=1e-7)
    if name not in ("Sign", "Rectified0"):  # by convention no gradient passes a step
        np.testing.assert_allclose(slope_times_c, k.ntk, rtol=1e-9, atol=1e-12)


def deep(layer, **dense):
    return stax.serial(
        stax.Dense(1, 1.1, 0.3), layer, stax.Dense(1, 1.2, **dense), layer,
        stax.Dense(1),
    )[2]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [slow("ExpNormalized"), "Relu_stabilized", slow("Sign"), slow("Rectified2")],
)
def test_derivatives_are_finite_at_coincident_and_zero_inputs(name):
    layer = stax.ExpNormalized() if name == "ExpNormalized" else LAYERS[name]
    kernel_fn = stax.serial(stax.Dense(1, 1.1), layer, stax.Dense(1, 0.7), layer)[2]

    def k(a, b):
        both = kernel_fn(a[None], b[None], ("nngp", "ntk"))
        return jnp.stack([x.reshape(()) for x in both])

    @jax.jit
    @jax.vmap
    def derivatives(a, b):
        forward = jax.jacfwd(k, (0, 1))(a, b)
        reverse = jax.jacrev(k, (0, 1))(a, b)
        return forward, reverse, jax.jacfwd(jax.jacrev(k, (0, 1)), (0, 1))(a, b)

    x = jnp.asarray(X[0])
    first = jnp.stack([x, 0 * x, x])
    second = jnp.stack([x, 0 * x, 0 * x])
    forward, reverse, hessian = derivatives(first, second)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(hessian))
    for f, r in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(f, r, rtol=1e-10, atol=1e-12)


def exact_mixed_derivative(layer, d_fn, x):
    """d2 k / dx dx' at x = x' of one hidden layer: E[phi'(u)^2] W^2 / n + terms in x.

    The field z(x) = phi(w x) has the covariance k, so the mixed derivative is the
    covariance of its gradient, W^2 E[phi'(u)^2 g g^T], an expectation over weights.
    """
    n = len(x)
    var = 1.1**2 * x @ x / n + 0.3**2
    z, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / np.sqrt(2 * np.pi)
    u = np.sqrt(var) * z
    slope2 = np.asarray(d_fn(jnp.asarray(u))) ** 2
    # weights given u: mean a x u / var, covariance a (1 - a x x^T / var), a = W^2 / n
    a = 1.1**2 / n
    even = np.sum(w * slope2)
    second = np.sum(w * slope2 * u * u)
    rest = a * np.eye(n) - a * a * np.outer(x, x) / var
    return even * rest + second * a * a * np.outer(x, x) / var**2


MIXED = ("Relu", "Rectified2", "Gelu", "Sin")
MIXED_SLOW = ("ABRelu", "Rectified3", "Erf", "Gaussian", "Gabor", "Polynomial")


@cache
def mixed_derivatives(names):
    def one(layer, x):
        def k(a, b):
            return stax.serial(stax.Dense(1, 1.1, 0.3), layer)[2](
                a[None], b[None], "nngp"
            )[0, 0]

        modes = (jax.jacfwd(jax.grad(k), 1), jax.jacrev(jax.jacfwd(k), 1))
        return [mode(x, x) for mode in modes]

    return jax.jit(lambda x: {name: one(LAYERS[name], x) for name in names})(X[0])


@pytest.mark.parametrize("name", [*MIXED, *(slow(name) for name in MIXED_SLOW)])
def test_mixed_second_derivative_at_coincidence(name):
    layer = LAYERS[name]

    def fn(x):
        return layer[1]((), x)

    d_fn = KINKED[name][1] if name in KINKED else derivative(fn)
    expected = exact_mixed_derivative(layer, d_fn, X[0])
    scale = np.abs(expected).max()
    # The integrand of a kinked function is smooth but for a step at u = 0, which a
    # symmetric rule integrates exactly.
    group = MIXED if name in MIXED else MIXED_SLOW
    for mixed in mixed_derivatives(group)[name]:
        np.testing.assert_allclose(mixed, expected, atol=1e-7 * scale)


@pytest.mark.parametrize(
    "name,get",
    [
        slow("Gelu", "nngp"),
        slow("Gelu", "ntk"),
        slow("Rectified3", "nngp"),
        ("Rectified3", "ntk"),
    ],
)
def test_mixed_second_derivative_of_deep_kernels_is_continuous(name, get):
    kernel_fn = deep(LAYERS[name], b_std=0.2)

    def k(a, b):
        return kernel_fn(a[None], b[None], get)[0, 0]

    x = jnp.asarray(X[0])
    mixed = jax.jit(jax.jacfwd(jax.grad(k), 1))
    at, near = mixed(x, x), mixed(x, x + 1e-4)
    np.testing.assert_allclose(at, near, atol=2e-3 * jnp.abs(at).max())


def test_relu_deep_nngp_mixed_derivative_is_the_limit():
    kernel_fn = deep(stax.Relu(), b_std=0.2)

    def k(a, b):
        return kernel_fn(a[None], b[None], "nngp")[0, 0]

    x = jnp.asarray(X[0])
    mixed = jax.jit(jax.jacfwd(jax.grad(k), 1))
    at = mixed(x, x)
    gaps = [1e-2, 1e-3, 1e-4]
    step = jnp.asarray([1.0, -0.7, 0.4])
    errors = [float(jnp.abs(mixed(x, x + h * step) - at).max()) for h in gaps]
    # The approach is linear in the distance, as |x - x'|^3 in the kernel says.
    assert errors[1] / errors[0] == pytest.approx(0.1, rel=0.2)
    assert errors[2] / errors[1] == pytest.approx(0.1, rel=0.2)


def test_diverging_derivatives_are_refused():
    kernel_fn = deep(stax.Relu())
    stax.require_derivatives(kernel_fn, "nngp", 1)
    with pytest.raises(ValueError, match="`Relu`"):
        stax.require_derivatives(kernel_fn, "ntk", 1)
    with pytest.raises(ValueError, match="`Relu`"):
        stax.require_derivatives(kernel_fn, "nngp", 2)
    stax.require_derivatives(deep(stax.RectifiedMonomial(2)), "ntk", 1)
    stax.require_derivatives(deep(stax.Erf()), "ntk", 5)

    # What keeps the kernel keeps what is known of it.
    for fn in (jax.jit(kernel_fn, static_argnames="get"), batch(kernel_fn, 1)):
        with pytest.raises(ValueError, match="`Relu`"):
            stax.require_derivatives(fn, "ntk", 1)

    # and the refusal is true: the mixed derivative grows as the inverse distance
    def k(a, b):
        return kernel_fn(a[None], b[None], "ntk")[0, 0]

    x = jnp.asarray(X[0])
    mixed = jax.jit(jax.jacfwd(jax.grad(k), 1))
    far, near = (float(jnp.abs(mixed(x, x.at[0].add(h))).max()) for h in (1e-3, 1e-5))
    assert near / far == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    "x2,rtol", [pytest.param(Y, 1e-8, id="other"), slow(None, 1e-6, id="same")]
)
def test_quadrature_equals_closed_form(x2, rtol):
    numeric = stax.ElementwiseNumerical(lambda x: stax.Gelu()[1]((), x), deg=40)
    approx = jax.jit(deep(numeric, b_std=0.2))
    exact = jax.jit(deep(stax.Gelu(), b_std=0.2))
    one, two = approx(X, x2), exact(X, x2)
    np.testing.assert_allclose(one.nngp, two.nngp, rtol=rtol)
    np.testing.assert_allclose(one.ntk, two.ntk, rtol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_quadrature_derivatives_equal_those_of_the_closed_form(get):
    fn, df = jax.lax.erf, lambda x: 2 / jnp.sqrt(jnp.pi) * jnp.exp(-x * x)
    one = stax.serial(stax.Dense(1, 1.1, 0.3), stax.ElementwiseNumerical(fn, 25, df))
    two = stax.serial(stax.Dense(1, 1.1, 0.3), stax.Erf())

    def mixed(network):
        def k(a, b):
            return network[2](a[None], b[None], get)[0, 0]

        return jax.jit(jax.vmap(jax.jacfwd(jax.grad(k), 1)))

    # coincident, apart, and one of them zero
    a = jnp.asarray(np.stack([X[0], X[0], 0 * X[0]]))
    b = jnp.asarray(np.stack([X[0], Y[0], Y[0]]))
    np.testing.assert_allclose(mixed(one)(a, b), mixed(two)(a, b), atol=1e-6)


def test_quadrature_gradient_of_a_kinked_function():
    # d2 phi is a delta function that no quadrature sees; the gradient needs none.
    fn = jax.grad(
        lambda p: stax.ElementwiseNumerical(jnp.abs, 60, jnp.sign)[2](
            stax.Dense(1)[2](X, Y).replace(is_gaussian=True, cov1=p), get="nngp"
        ).sum()
    )
    ref = jax.grad(
        lambda p: stax.Abs()[2](
            stax.Dense(1)[2](X, Y).replace(is_gaussian=True, cov1=p), get="nngp"
        ).sum()
    )
    p = stax.Dense(1)[2](X, Y).cov1
    np.testing.assert_allclose(jax.jit(fn)(p), jax.jit(ref)(p), rtol=0.1)


def test_elementwise_with_own_kernel():
    def erf(x):
        return jax.lax.erf(x)

    def nngp_fn(c, p, q):
        return 2 / jnp.pi * jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * p) * (1 + 2 * q)))

    own = deep(stax.Elementwise(erf, nngp_fn), b_std=0.1)
    ref = deep(stax.Erf(), b_std=0.1)
    one, two = jax.jit(own)(X, Y), jax.jit(ref)(X, Y)
    np.testing.assert_allclose(one.nngp, two.nngp, rtol=1e-12)
    np.testing.assert_allclose(one.ntk, two.ntk, rtol=1e-12)
    with pytest.raises(ValueError, match="neither"):
        stax.Elementwise()
    with pytest.raises(NotImplementedError, match="`nngp_fn`"):
        deep(stax.Elementwise(erf))(X, Y)
    with pytest.raises(NotImplementedError, match="`fn`"):
        stax.Elementwise(nngp_fn=nngp_fn)[1]((), X)


@pytest.mark.parametrize("n", [slow(0), slow(1), slow(2), 3, slow(4)])
def test_hermite_is_the_power_at_unit_variance(n):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True) * np.sqrt(3)
    he = np.polynomial.hermite_e.herme2poly([0] * n + [1])
    he = he / np.sqrt(float(np.prod(np.arange(1, n + 1))))
    polynomial = stax.serial(stax.Dense(1), stax.Polynomial(he))
    hermite = stax.serial(stax.Dense(1), stax.Hermite(n))
    with pytest.warns(UserWarning, match="variance 1"):
        k = hermite[2](unit, None, ("nngp", "ntk"))
    ref = polynomial[2](unit, None, ("nngp", "ntk"))
    np.testing.assert_allclose(k.nngp, ref.nngp, atol=1e-12)
    np.testing.assert_allclose(k.ntk, ref.ntk, atol=1e-12)


def test_exp_normalized():
    k = stax.Dense(1, 1.1, 0.3)[2](X, Y)
    out = stax.ExpNormalized(0.7, -0.4, do_clip=True)[2](k)
    rho = k.nngp / np.sqrt(np.outer(k.cov1, k.cov2))
    T = np.sqrt(np.outer(k.cov1, k.cov2)) * np.exp(0.7 * (rho - 0.4))
    np.testing.assert_allclose(out.nngp, T, rtol=1e-12)
    np.testing.assert_allclose(
        out.ntk, k.ntk * 0.7 * np.exp(0.7 * (rho - 0.4)), rtol=1e-12
    )
    with pytest.raises(NotImplementedError, match="kernel only"):
        stax.ExpNormalized()[1]((), X)


def test_kernel_needs_gaussian_input():
    with pytest.raises(ValueError, match="affine"):
        stax.Relu()[2](X, Y)
    with pytest.raises(ValueError, match="affine"):
        stax.serial(stax.Dense(1), stax.Erf(), stax.Relu())[2](X, Y)
    with pytest.raises(NotImplementedError, match="`degree`"):
        stax.RectifiedMonomial(-1)
    with pytest.raises(NotImplementedError, match="`degree`"):
        stax.Monomial(1.5)


@pytest.mark.parametrize("name", ["Relu", slow("Erf"), "Gelu", slow("Rectified2")])
def test_single_precision(name):
    kernel_fn = deep(LAYERS[name], b_std=0.2)
    wide = kernel_fn(X, Y, ("nngp", "ntk"))
    with jax.enable_x64(False):
        narrow = kernel_fn(X, Y, ("nngp", "ntk"))
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_layers_of_a_user_declare_their_smoothness():
    @stax.layer
    def Halved():
        return (
            lambda rng, shape: (shape, ()),
            lambda params, x, **kwargs: x / 2,
            lambda k, **kwargs: k / 2,
        )

    numerical = stax.ElementwiseNumerical(jnp.tanh, 5)
    for layer, name in ((Halved(), "Halved"), (numerical, "ElementwiseNumerical")):
        with pytest.raises(ValueError, match=f"`{name}` does not say"):
            stax.require_derivatives(deep(layer), "nngp", 1)
        stax.require_derivatives(deep(layer), "nngp", 0)
        declared = stax.with_smoothness(layer)
        stax.require_derivatives(deep(declared), "ntk", 2)
        k = [deep(one)(X, X, "ntk") for one in (layer, declared)]
        np.testing.assert_array_equal(*k)
        rough = deep(stax.with_smoothness(layer, nngp=1, ntk=0))
        stax.require_derivatives(rough, "nngp", 1)
        with pytest.raises(ValueError, match=f"`{name}` leaves it with 0"):
            stax.require_derivatives(rough, "ntk", 1)
    with pytest.raises(ValueError, match="does not say"):
        stax.require_derivatives(lambda x1, x2, get: x1 @ x2.T)
