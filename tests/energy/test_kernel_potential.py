"""Gaussian-process potentials: fits, predictions, variances and their derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, nn, partition, quantity, simulate, space
from jax_md.energy import kernel_potential as kp
from jax_md.energy.kernel_potential.iterative import conjugate_gradients
from jax_md.wide import stax

BOX, N, CUTOFF = 7.0, 4, 3.2
SPECIES = np.array([0, 1, 0, 1])
SLOW = pytest.mark.slow  # compile for long
displacement, shift = space.periodic(BOX)


def deep(last=False):
    """Two hidden layers; with `last`, summed over atoms by the network itself."""
    layers = [stax.Dense(1, 1.5, 0.3), stax.Erf(), stax.Dense(1, 1.2, 0.1), stax.Erf()]
    pool = [stax.GlobalSumPool()] if last else []
    return stax.serial(*layers, stax.Dense(1, 1.0, 0.1), *pool)[2]


SHALLOW = stax.serial(stax.Dense(1, 1.5, 0.3), stax.Erf(), stax.Dense(1, 1.2, 0.1))[2]
KERNELS = {
    "nngp": kp.network(SHALLOW, "nngp", variance=3.0),
    "ntk": kp.network(SHALLOW, "ntk"),
    "rbf": kp.rbf(0.8),
}


def descriptors(species=None, neighbor=False, **options):
    make = nn.behler_parrinello
    form = make.symmetry_functions
    if neighbor:
        form = make.symmetry_functions_neighbor_list
    options = {"radial_etas": [0.1, 0.6], "angular_etas": [0.1, 0.3]} | options
    return form(
        displacement,
        species,
        lambdas=[1.0, -1.0],
        zetas=[1.0, 2.0],
        cutoff_distance=CUTOFF,
        cutoff_fn=nn.quintic_cutoff,
        **options,
    )


def morse(R, perturbation=None, **kwargs):
    extra = {} if perturbation is None else {"perturbation": perturbation}
    shape = {"sigma": 1.7, "alpha": 1.5, "r_onset": 2.2, "r_cutoff": 3.0}
    return energy.morse_pair(displacement, **shape)(R, **extra)


@functools.cache
def labelled():
    label = jax.jit(
        lambda R: (
            morse(R),
            quantity.force(morse)(R),
            quantity.stress(morse, R, BOX),
        )
    )
    spots = np.array([[0, 0, 0], [1.7, 0, 0], [0, 1.7, 0], [0.3, 0.2, 1.7]])
    rng = np.random.default_rng(0)
    frames = [jnp.asarray(spots + 2 + rng.normal(0, 0.1, (N, 3))) for _ in range(7)]
    return [(R, *label(R)) for R in frames]


def data(count=4, energies=True, forces=True, stresses=False, species=None, start=0):
    return [
        kp.observation(
            R,
            energy=E if energies else None,
            force=F if forces else None,
            stress=S if stresses else None,
            box=BOX if stresses else None,
            species=species,
        )
        for R, E, F, S in labelled()[start : start + count]
    ]


@functools.cache
def fitted(name="rbf", **options):
    options = {"noise": (1e-4, 1e-3)} | options
    return kp.fit(KERNELS[name], descriptors(), data(), **options)


def held_out():
    return labelled()[5]


def test_interpolates_energies_forces_and_stresses():
    potential = kp.fit(
        KERNELS["nngp"], descriptors(), data(3, stresses=True), noise=(0, 0, 0)
    )
    E_fn = jax.jit(kp.energy_fn(potential))
    for R, E, F, S in labelled()[:3]:
        np.testing.assert_allclose(E_fn(R), E, rtol=0, atol=1e-6)
        np.testing.assert_allclose(quantity.force(E_fn)(R), F, rtol=0, atol=1e-5)
        stress = quantity.stress(E_fn, R, BOX)
        np.testing.assert_allclose(stress, S, rtol=0, atol=1e-6)
    # Most of what energies alone do not say, forces do.
    R, E, F, _ = held_out()
    assert jnp.abs(E_fn(R) - E) < 0.2 * np.std([x[1] for x in labelled()])


@pytest.mark.parametrize("name", [pytest.param("ntk", marks=SLOW), "rbf"])
def test_force_and_stress_are_derivatives(name):
    E_fn = jax.jit(kp.energy_fn(fitted(name)))
    R, _, F, _ = held_out()
    along = jnp.cos(jnp.arange(R.size)).reshape(R.shape)
    force = jax.jit(quantity.force(E_fn))(R)
    h = 1e-4
    slope = float(E_fn(R + h * along) - E_fn(R - h * along)) / (2 * h)
    assert float(-jnp.sum(force * along)) == pytest.approx(slope, rel=1e-5)
    assert jnp.linalg.norm(force - F) < 0.3 * jnp.linalg.norm(F)
    np.testing.assert_allclose(jnp.sum(force, 0), 0, atol=1e-10)
    strain = jnp.zeros((3, 3)).at[0, 1].set(h)
    up, down = (E_fn(R, perturbation=jnp.eye(3) + s * strain) for s in (1, -1))
    stress = quantity.stress(E_fn, R, BOX)[0, 1]
    expected = -float(up - down) / (2 * h * BOX**3)
    assert float(stress) == pytest.approx(expected, rel=1e-5)
    assert np.all(np.isfinite(jax.hessian(E_fn)(R)))


@SLOW
def test_conjugate_gradients_agree_with_cholesky():
    options = {"noise": (1e-3, 1e-2), "jitter": 1e-8}
    for observations in (data(), data(forces=False)):
        args = (KERNELS["rbf"], descriptors(), observations)
        direct = kp.fit(*args, **options)
        iterative = kp.fit(*args, solver="cg", **options)
        largest = float(jnp.max(jnp.abs(direct.alpha)))
        np.testing.assert_allclose(
            iterative.alpha, direct.alpha, rtol=0, atol=1e-5 * largest
        )
        assert iterative.report["iterations"] < len(direct.alpha)
    with pytest.raises(ValueError, match="residual"):
        kp.fit(*args, solver="cg", max_iterations=0, **options)


def test_conjugate_gradients_meet_the_true_residual():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    A = jnp.asarray((q * np.logspace(-3, 0, 40)) @ q.T)
    y, start = jnp.asarray(rng.normal(size=40)), 1e7 * jnp.asarray(rng.normal(size=40))

    @jax.jit
    def solve(tolerance):
        return conjugate_gradients(
            lambda a: A @ a,
            y,
            lambda r: r,
            start,
            tolerance=tolerance,
            max_iterations=5000,
        )

    # From so far away, rounding leaves 1e-9 of the residual that is updated.
    a, _, residual = solve(1e-11)
    assert residual <= 1e-11
    assert float(jnp.linalg.norm(y - A @ a) / jnp.linalg.norm(y)) < 2e-11
    # What cannot be met ends the search, with the best that was found.
    a, iterations, residual = solve(1e-30)
    assert iterations < 5000 and 1e-30 < residual < 1e-11


@SLOW
def test_variances_by_conjugate_gradients_agree_with_cholesky():
    options = {"noise": (1e-3, 1e-2), "jitter": 1e-8}
    direct, iterative = (fitted(solver=way, **options) for way in ("cholesky", "cg"))
    R, *_ = held_out()
    for make in (kp.variance_fn, kp.force_variance_fn):
        expected, found = (
            jax.tree.leaves(jax.jit(make(p))(R)) for p in (direct, iterative)
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    eager = kp.variance_fn(iterative)(R)[0]
    np.testing.assert_allclose(eager, kp.variance_fn(direct)(R)[0], rtol=1e-6)

    def total(p, R):
        return kp.variance_fn(p)(R)[0]

    for order in (jax.grad, lambda f: jax.jacfwd(jax.grad(f))):
        expected, found = (
            jax.jit(order(functools.partial(total, p)))(R) for p in (direct, iterative)
        )
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


@SLOW
def test_variances_that_conjugate_gradients_do_not_reach():
    p = fitted(solver="cg", noise=(1e-3, 1e-2), jitter=1e-8)
    few = p.set(report={**p.report, "max_iterations": 1})
    R, *_ = held_out()
    with pytest.raises(ValueError, match="residual"):
        kp.variance_fn(few)(R)
    total, each = jax.jit(kp.variance_fn(few))(R)
    assert np.isnan(total) and np.all(np.isnan(each))
    # A loose tolerance leaves too much variance, by the square of what it is.
    loose = p.set(report={**p.report, "tolerance": 1e-3})
    total, each = jax.jit(kp.variance_fn(p))(R)
    wide_total, wide = jax.jit(kp.variance_fn(loose))(R)
    assert np.all(wide >= each * (1 - 1e-9))
    prior = float(p.kernel(*_atoms(p, R)[:1], np.zeros(N, int), *_atoms(p, R))[0, 0])
    assert 0 < float(jnp.max(wide - each)) < 1e-4 * prior


@SLOW
def test_covariance_blocks_are_derivatives_of_the_structure_kernel():
    training = kp.prepare(descriptors(), data(2), standardize=False)
    kernel = kp.kernels.AtomKernel(KERNELS["nngp"], (0,), None)
    K = jax.jit(lambda t: kp.covariance.covariance(kernel, t))(training)
    f = descriptors()

    def of_pair(R1, R2):
        return kp.structure_kernel(KERNELS["nngp"], f(R1), f(R2))

    force_1 = jax.jit(jax.grad(of_pair))
    of_both = jax.jit(jax.jacfwd(force_1, 1))
    for i, j in ((0, 0), (0, 1)):
        R1, R2 = labelled()[i][0], labelled()[j][0]
        rows = 1 + 3 * N
        block = K[i * rows : (i + 1) * rows, j * rows : (j + 1) * rows]
        np.testing.assert_allclose(block[0, 0], of_pair(R1, R2), rtol=1e-10)
        np.testing.assert_allclose(block[1:, 0], -force_1(R1, R2).ravel(), atol=1e-10)
        both = of_both(R1, R2).reshape(3 * N, 3 * N)
        np.testing.assert_allclose(block[1:, 1:], both, atol=1e-9)
    np.testing.assert_allclose(K, K.T, rtol=0, atol=1e-12)
    weights = jnp.cos(jnp.arange(len(K)))
    free = jax.jit(lambda t: kp.covariance.product(kernel, t, weights))(training)
    np.testing.assert_allclose(free, K @ weights, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        jax.jit(lambda t: kp.covariance.diagonal(kernel, t))(training),
        jnp.diagonal(K),
        rtol=1e-10,
    )


def test_sum_over_pairs_is_the_kernel_of_the_pooled_network():
    f = descriptors()
    x1, x2 = (f(labelled()[i][0]) for i in (0, 1))
    for get in ("nngp", "ntk"):
        pooled = deep(last=True)(x1[None], x2[None], get)[0, 0]
        ours = kp.structure_kernel(kp.network(deep(), get), x1, x2)
        np.testing.assert_allclose(ours, pooled, rtol=1e-12)


def test_variance_vanishes_at_the_data_and_nowhere_is_negative():
    potential = kp.fit(KERNELS["rbf"], descriptors(), data(), noise=(0, 0))
    variance = jax.jit(kp.variance_fn(potential))
    R, *_ = labelled()[0]
    total, each = variance(R)
    prior = float(
        jnp.sum(potential.kernel(*_atoms(potential, R), *_atoms(potential, R)))
    )
    assert 0 <= total < 1e-8 * prior
    far = R + jnp.zeros_like(R).at[0].set(jnp.array([-0.6, 0.4, 0.0]))
    further, each_far = variance(far)
    assert further > 1e3 * total
    assert jnp.min(each) >= 0 and jnp.min(each_far) >= 0
    slope = jax.jit(jax.grad(lambda R: variance(R)[0]))(far)
    assert np.all(np.isfinite(slope)) and np.any(slope)


def _atoms(p, R):
    return (descriptors()(R) - p.mean) / p.scale, np.zeros(len(R), int)


def test_force_variance_vanishes_at_the_data_and_nowhere_is_negative():
    potential = kp.fit(KERNELS["rbf"], descriptors(), data(), noise=(0, 0))
    variance = jax.jit(kp.force_variance_fn(potential))
    R, *_ = labelled()[0]
    far = R + jnp.zeros_like(R).at[0].set(jnp.array([-0.6, 0.4, 0.0]))
    at, off = variance(R), variance(far)
    assert at.shape == off.shape == R.shape
    assert jnp.all(at >= 0) and jnp.all(off > 0)
    assert jnp.max(at) < 1e-6 * jnp.max(off)
    # Energies alone leave it to forces, those of other structures much of it.
    energies = kp.fit(KERNELS["rbf"], descriptors(), data(forces=False), noise=(0, 0))
    assert jnp.max(jax.jit(kp.force_variance_fn(energies))(R)) > 1e3 * jnp.max(at)


@pytest.mark.parametrize("sparse", [False, pytest.param(True, marks=SLOW)])
def test_force_variance_is_the_derivative_of_the_covariance(sparse, dtype):
    potential = fitted(environments=9) if sparse else fitted()
    R = held_out()[0]

    def covariance(R1, R2):
        """Posterior covariance of two total energies, from that of local ones."""
        both = jnp.concatenate([_atoms(potential, R)[0] for R in (R1, R2)])
        z = np.zeros(2 * N, int)
        if sparse:
            k = potential.kernel(potential.x, potential.z, both, z)
            kept = jax.scipy.linalg.solve_triangular(potential.upper[0], k, trans="T")
        else:
            groups = potential.training.groups
            k = kp.covariance.cross(potential.kernel, (both, z), groups).T
            kept = jnp.zeros_like(k)
        known = jax.scipy.linalg.solve_triangular(potential.lower, k, lower=True)
        C = potential.kernel(both, z, both, z) - known.T @ known + kept.T @ kept
        return jnp.sum(C[:N, N:])

    of_both = jax.jit(jax.jacfwd(jax.grad(covariance), 1))
    expected = jnp.diagonal(of_both(R, R).reshape(R.size, R.size)).reshape(R.shape)
    found = jax.jit(kp.force_variance_fn(potential))(R.astype(dtype))
    assert found.dtype == dtype
    rtol = 1e-6 if dtype == jnp.float64 else 2e-3  # descriptors come in that type
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * found.max())


def test_fit_within_jit():
    training = kp.prepare(descriptors(), data())
    fit = functools.partial(kp.fit, KERNELS["rbf"], descriptors(), noise=(1e-4, 1e-3))
    direct, compiled = fit(training), jax.jit(fit)(training)
    np.testing.assert_allclose(compiled.lower, direct.lower, rtol=0, atol=1e-10)
    twice = kp.prepare(descriptors(), 2 * data(1))
    singular = jax.jit(functools.partial(fit, jitter=0.0, noise=(0, 0)))(twice)
    assert not np.all(np.isfinite(singular.alpha))


@SLOW
def test_variance_is_that_of_the_full_matrix():
    potential = fitted()
    training, kernel = potential.training, potential.kernel
    R, *_ = held_out()
    more = kp.prepare(
        descriptors(),
        [kp.observation(R, energy=0.0)],
        standardize=(potential.mean, potential.scale),
        reference=potential.reference,
    )
    matrix = jax.jit(functools.partial(kp.covariance.covariance, kernel))
    K, k, k_own = matrix(training), matrix(training, more), matrix(more)[0, 0]
    K = K + np.diag(training.deviation(potential.noise) ** 2 + 1e-10 * np.diag(K))
    expected = k_own - (k.T @ np.linalg.solve(K, k))[0, 0]
    total, _ = jax.jit(kp.variance_fn(potential))(R)
    assert float(total) == pytest.approx(float(expected), rel=1e-4)


def test_sparse_with_all_environments_is_full():
    options = {"noise": (1e-3, 1e-2), "jitter": 0.0}
    args = (KERNELS["ntk"], descriptors(), data(6, forces=False))
    full = kp.fit(*args, **options)
    sparse = kp.fit(*args, environments=np.arange(6 * N), **options)
    R, *_ = labelled()[6]
    for make in (kp.energy_fn, kp.variance_fn):
        a, b = (jax.tree.leaves(jax.jit(make(p))(R)) for p in (full, sparse))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)


@SLOW
@pytest.mark.parametrize("method", kp.select.METHODS)
def test_sparse_by_selection(method):
    options = {"noise": (1e-3, 1e-2), "environments": 16, "selection": method}
    potential = kp.fit(KERNELS["rbf"], descriptors(), data(5), **options)
    assert potential.u is None and potential.x.shape[0] == 16
    R, E, F, _ = held_out()
    E_fn = kp.energy_fn(potential)
    e, slope = jax.jit(jax.value_and_grad(E_fn))(R)
    assert jnp.abs(e - E) < 0.8 * np.std([x[1] for x in labelled()])
    assert jnp.linalg.norm(slope + F) < 0.5 * jnp.linalg.norm(F)
    total, each = jax.jit(kp.variance_fn(potential))(R)
    assert total >= 0 and jnp.all(each >= 0)


def test_selection():
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[10:] = x[:10]  # everything twice
    species = np.arange(20) % 2
    kernel = kp.rbf(0.1)
    for method in kp.select.METHODS:
        chosen = kp.select_environments(x, species, 7, method, kernel=kernel)
        assert len(set(chosen.tolist())) == 7
        assert len({tuple(x[i]) for i in chosen}) == 7 or method == "cur"
        assert set(species[chosen]) == {0, 1}
    everything = kp.select_environments(x, None, 20, "variance", kernel=kernel)
    assert len(everything) == 10  # the rest says nothing new
    with pytest.raises(ValueError, match="`method`"):
        kp.select_environments(x, method="best")
    with pytest.raises(ValueError, match="`kernel`"):
        kp.select_environments(x)


@SLOW
@pytest.mark.parametrize(
    "options",
    [{}, {"environments": np.arange(0, 12, 2)}, {"solver": "cg"}],
    ids=["cholesky", "sparse", "cg"],
)
def test_update_is_a_fit_to_all(options):
    options = {"noise": (1e-3, 1e-2), "jitter": 1e-8} | options
    first = kp.fit(KERNELS["rbf"], descriptors(), data(3), **options)
    grown = kp.update(first, data(1, start=3))
    again = kp.fit(
        KERNELS["rbf"],
        descriptors(),
        data(4),
        standardize=(first.mean, first.scale),
        reference=first.reference,
        **options,
    )
    R, *_ = held_out()
    for make in (kp.energy_fn, kp.variance_fn):
        a, b = (jax.tree.leaves(jax.jit(make(p))(R)) for p in (grown, again))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)
    assert jnp.abs(kp.energy_fn(first)(R) - kp.energy_fn(grown)(R)) > 1e-6


@SLOW
@pytest.mark.parametrize(
    "options",
    [{}, {"environments": 10}, {"solver": "cg", "noise": (1e-3, 1e-2)}],
    ids=["cholesky", "sparse", "cg"],
)
def test_save_and_load(options, tmp_path):
    potential = fitted(**options)
    path = tmp_path / "morse"
    kp.save(path, potential)
    again = kp.load(path, KERNELS["rbf"], potential.descriptor_fn)
    R, *_ = held_out()
    for make in (kp.energy_fn, kp.variance_fn):
        for a, b in zip(
            jax.tree.leaves(jax.jit(make(potential))(R)),
            jax.tree.leaves(jax.jit(make(again))(R)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    more = data(1, start=4)
    a, b = (kp.energy_fn(kp.update(p, more))(R) for p in (potential, again))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    with pytest.raises(ValueError, match="not the one"):
        kp.load(path, KERNELS["nngp"], descriptors())
    kp.save(path, potential, with_training=False)
    lean = kp.load(path, KERNELS["rbf"], descriptors())
    np.testing.assert_array_equal(kp.energy_fn(lean)(R), kp.energy_fn(potential)(R))
    with pytest.raises(ValueError, match="no training data"):
        kp.update(lean, more)
    if potential.solver != "sparse":
        with pytest.raises(ValueError, match="with_training"):
            kp.variance_fn(lean)


@SLOW
def test_marginal_likelihood_and_its_gradient():
    training = kp.prepare(descriptors(), data(2, stresses=True))

    def evidence(p):
        network = stax.serial(
            stax.Dense(1, p["w"], 0.3), stax.Erf(), stax.Dense(1, 1.0, 0.1)
        )[2]
        kernel = kp.network(network, variance=p["s"])
        return kp.log_marginal_likelihood(kernel, training, (1e-2, p["noise"], 1e-2))

    at = {"w": 1.4, "s": 2.0, "noise": 0.05}
    value, gradient = jax.jit(jax.value_and_grad(evidence))(at)
    evidence = jax.jit(evidence)
    for name in at:
        h = 1e-4 * at[name]
        up, down = (evidence(at | {name: at[name] + s * h}) for s in (1, -1))
        difference = float(up - down) / (2 * h)
        assert float(gradient[name]) == pytest.approx(difference, rel=1e-4), name
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda t: kp.log_marginal_likelihood(KERNELS["rbf"], t))(training)


def projected(training):
    """The axes of `independent`, found from what all forces and stresses obey."""
    (group,) = training.groups
    g, rows = group.x.shape[0], group.rows
    spots = np.stack([R for R, *_ in labelled()[:g]])
    known = np.zeros((g, 6 + 3, rows))
    for k in range(3):
        known[:, k, 1 + k : 1 + 3 * N : 3] = 1  # the sum of forces
        # The cluster does not reach through the box: nor is there a torque.
        turn = np.cross(np.eye(3)[k], spots)
        known[:, 3 + k, 1 : 1 + 3 * N] = turn.reshape(g, -1)
        i, j = (k + 1) % 3, (k + 2) % 3  # the antisymmetric part of the stress
        known[:, 6 + k, 1 + 3 * N + 3 * i + j] = 1
        known[:, 6 + k, 1 + 3 * N + 3 * j + i] = -1
    return [np.linalg.svd(block)[2][9:].T for block in known]


@SLOW
def test_marginal_likelihood_of_what_data_say():
    training = kp.prepare(descriptors(), data(2, stresses=True))
    axes = np.asarray(jax.scipy.linalg.block_diag(*projected(training)))
    # The density of a normal distribution, written out.
    kernel = kp.kernels.AtomKernel(KERNELS["rbf"], (0,), None)
    K = np.asarray(jax.jit(lambda t: kp.covariance.covariance(kernel, t))(training))
    noise = np.asarray(training.deviation(kp.Noise())) ** 2
    K = axes.T @ (K + np.diag(noise)) @ axes
    y = np.asarray(training.y) @ axes
    expected = -0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(2 * np.pi * K)[1])
    found = kp.log_marginal_likelihood(KERNELS["rbf"], training, jitter=0.0)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@SLOW
def test_independent_data_are_fitted_alike():
    training = kp.prepare(descriptors(), data(3, stresses=True))
    fewer = kp.independent(training)
    assert [g.kinds for g in fewer.groups] == [
        (("energy", 1), ("force", 3 * N - 6), ("stress", 6))
    ]
    assert kp.independent(fewer) is fewer and fewer.y.shape == (3 * (3 * N + 1),)
    options = {"noise": (1e-4, 1e-3), "jitter": 0.0}
    R, *_ = held_out()
    a, b = (
        kp.fit(KERNELS["rbf"], descriptors(), t, **options) for t in (training, fewer)
    )
    for make in (kp.energy_fn, kp.variance_fn):
        for x, y in zip(
            jax.tree.leaves(make(a)(R)), jax.tree.leaves(make(b)(R)), strict=True
        ):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)
    # Energies alone are independent already.
    energies = kp.prepare(descriptors(), data(3, forces=False))
    np.testing.assert_array_equal(kp.independent(energies).y, energies.y)


@SLOW
def test_invariances():
    E_fn = jax.jit(kp.energy_fn(fitted("rbf"), per_particle=True))
    R, *_ = held_out()
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    e = E_fn(R)
    assert e.shape == (N,)
    np.testing.assert_allclose(E_fn(R @ turn.T + 1.3), e, rtol=0, atol=1e-8)
    np.testing.assert_allclose(E_fn(R[::-1]), e[::-1], rtol=0, atol=1e-8)


@SLOW
def test_species():
    options = {"noise": (1e-4, 1e-3)}
    f = descriptors(SPECIES)
    R, E, F, _ = labelled()[1]
    observations = data(3, species=SPECIES)
    own = {0: KERNELS["rbf"], 1: kp.rbf(1.3)}
    for kernel, extra in (
        (KERNELS["rbf"], {}),
        (KERNELS["rbf"], {"coupling": np.array([[1.0, 0.5], [0.5, 1.0]])}),
        (own, {}),
    ):
        potential = kp.fit(kernel, f, observations, **extra, **options)
        E_fn = jax.jit(kp.energy_fn(potential, species=SPECIES))
        np.testing.assert_allclose(E_fn(R), E, rtol=0, atol=2e-3)
        # Like atoms can change places, unlike ones cannot.
        swapped = E_fn(R[jnp.array([2, 1, 0, 3])])
        np.testing.assert_allclose(swapped, E_fn(R), rtol=0, atol=1e-9)
        assert jnp.abs(E_fn(R[jnp.array([1, 0, 2, 3])]) - E_fn(R)) > 1e-4
    x, z = potential.x, np.asarray(potential.z)
    K = kp.kernels.AtomKernel(KERNELS["rbf"], (0, 1), None)(x, z, x, z)
    assert not np.any(np.asarray(K)[z[:, None] != z])
    with pytest.raises(ValueError, match="pass `species=`"):
        kp.energy_fn(potential)(R)
    with pytest.raises(ValueError, match="fitted to"):
        kp.energy_fn(potential, species=SPECIES + 1)(R)
    with pytest.raises(ValueError, match="Add a kernel"):
        kp.fit({0: KERNELS["rbf"]}, f, observations)
    with pytest.raises(ValueError, match="`coupling`"):
        kp.fit(KERNELS["rbf"], f, observations, coupling=np.eye(3))


@SLOW
def test_over_a_neighbor_list_in_both_precisions(dtype):
    plain = fitted(environments=10)
    neighbor_fn = partition.neighbor_list(displacement, BOX, CUTOFF, 0.3)
    listed = plain.set(descriptor_fn=descriptors(neighbor=True))
    R = held_out()[0].astype(dtype)
    neighbor = neighbor_fn.allocate(R, extra_capacity=2)
    E_fn = kp.energy_fn(listed)
    E, slope = jax.jit(jax.value_and_grad(E_fn))(R, neighbor=neighbor)
    assert E.dtype == slope.dtype == dtype
    expected = jax.jit(jax.value_and_grad(kp.energy_fn(plain)))(R)
    tolerance = 1e-9 if dtype == jnp.float64 else 2e-4
    np.testing.assert_allclose(E, expected[0], rtol=0, atol=tolerance)
    np.testing.assert_allclose(slope, expected[1], rtol=0, atol=20 * tolerance)
    total, each = jax.jit(kp.variance_fn(listed))(R, neighbor=neighbor)
    assert total.dtype == each.dtype == dtype
    again = kp.energy_fn(fitted(environments=8))(R, potential=plain)
    np.testing.assert_allclose(again, expected[0], rtol=1e-6)


@SLOW
def test_dynamics_conserve_energy():
    E_fn = kp.energy_fn(fitted(environments=12))
    R = labelled()[0][0]

    def drift(dt, steps):
        simulator = simulate.nve(E_fn, shift, dt)
        state = simulator.init(jax.random.key(0), R, kT=0.05)

        def step(state, _):
            kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
            return simulator.step(state), E_fn(state.position) + kinetic

        run = jax.jit(lambda s: jax.lax.scan(step, s, length=steps))
        state, H = run(state)
        assert np.max(np.abs(state.position - R)) > 0.02
        return np.max(np.abs(H - H[0]))

    # What velocity Verlet leaves of the energy goes with the square of the time step.
    coarse, fine = drift(1e-3, 300), drift(5e-4, 600)
    assert coarse < 1e-3 and 3.5 < coarse / fine < 4.5


def test_rough_kernels_are_refused_for_forces():
    rough = stax.serial(stax.Dense(1, 1.0, 0.1), stax.Relu(), stax.Dense(1))[2]
    kernel = kp.network(rough, "ntk")
    with pytest.raises(ValueError, match="Relu"):
        kp.fit(kernel, descriptors(), data(2))
    potential = kp.fit(kernel, descriptors(), data(2, forces=False))
    with pytest.raises(ValueError, match="Relu"):
        kp.update(potential, data(1))
    with pytest.raises(ValueError, match="Relu"):
        kp.log_marginal_likelihood(kernel, kp.prepare(descriptors(), data(1)))
    # Its other kernel has the one derivative that forces need.
    once = kp.fit(kp.network(rough, "nngp"), descriptors(), data(2), noise=(1e-4, 1e-3))
    R, E, *_ = labelled()[0]
    np.testing.assert_allclose(jax.jit(kp.energy_fn(once))(R), E, atol=5e-3)

    def kink(a, b):
        return jnp.exp(-jnp.linalg.norm(a[:, None] - b[None], axis=-1))

    with pytest.raises(ValueError, match="kink"):
        kp.fit(kink, descriptors(), data(1))


def test_module_loads_on_first_use():
    assert energy.kernel_potential is kp and "kernel_potential" in dir(energy)
    with pytest.raises(AttributeError, match="no_such"):
        _ = energy.no_such


def test_singular_matrices_say_what_would_do():
    # Forces add up to zero, whatever the potential: three of twelve say nothing.
    options = {"noise": (0, 0)}
    args = (KERNELS["rbf"], descriptors(), data(1))
    with pytest.raises(ValueError, match="condition number of .*jitter=") as raised:
        kp.fit(*args, jitter=0.0, **options)
    advice = float(str(raised.value).rpartition("jitter=")[2].rstrip("`."))
    potential = kp.fit(*args, jitter=advice, **options)
    R, E, *_ = labelled()[0]
    np.testing.assert_allclose(kp.energy_fn(potential)(R), E, atol=1e-6)


def test_errors():
    R, E, F, S = labelled()[0]
    for wrong in ({"force": F[:2]}, {"energy": F}, {"species": [0]}, {"stress": S}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kp.observation(R, **wrong)
    with pytest.raises(ValueError, match="know something"):
        kp.observation(R)
    with pytest.raises(ValueError, match="empty"):
        kp.prepare(descriptors(), [])
    with pytest.raises(ValueError, match="one row for each"):
        kp.prepare(lambda R: jnp.sum(R), data(1))
    args = (descriptors(), data(1, forces=False))
    with pytest.raises(TypeError, match="kernel_potential.network"):
        kp.fit(deep(), *args)
    with pytest.raises(ValueError, match="vmap"):
        kp.fit(lambda a, b: jnp.dot(a, b.T)[0, 0], *args)
    with pytest.raises(ValueError, match="`solver`"):
        kp.fit(KERNELS["rbf"], *args, solver="lu")
    with pytest.raises(ValueError, match="`environments`"):
        kp.fit(KERNELS["rbf"], *args, environments=np.array([99]))
    with pytest.raises(ValueError, match="`noise`"):
        kp.fit(KERNELS["rbf"], *args, environments=2, noise=(0, 0))
    with pytest.raises(ValueError, match="`get`"):
        kp.network(deep(), "kernel")
    with pytest.raises(ValueError, match="`reference`"):
        kp.prepare(*args, reference=np.zeros(3))
    with pytest.raises(ValueError, match="`standardize`"):
        kp.prepare(*args, standardize=(0.0, 1.0))
    with pytest.raises(ValueError, match="descriptors"):
        kp.energy_fn(fitted().set(descriptor_fn=lambda R: R))(R)
