"""The forms of the pair potentials that act on systems."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, partition, smap, space

FORMATS = list(partition.NeighborListFormat)
# name: (pair form, list form, parameters, the one that sets the scale)
POTENTIALS = {
    "soft_sphere": (energy.soft_sphere_pair, energy.soft_sphere_neighbor_list),
    "lennard_jones": (energy.lennard_jones_pair, energy.lennard_jones_neighbor_list),
    "morse": (energy.morse_pair, energy.morse_neighbor_list),
}
RTOL = {"float32": 1e-4, "float64": 1e-11}


def liquid(box, dtype="float64", n=40, seed=0):
    """Particles on a jittered grid, none of which overlap badly."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1)
    spacing = min(box / side, 1.2)
    R = (grid.reshape(-1, 3)[:n] + 0.3) * spacing + rng.normal(size=(n, 3)) * 0.05
    return jnp.asarray(R % box, dtype)


# The forms share their code, so few combinations show what each potential adds.
COMBINATIONS = [
    ("lennard_jones", 5.0, False, "float64"),
    ("lennard_jones", 15.0, True, "float64"),
    ("lennard_jones", 5.0, True, "float32"),
    ("soft_sphere", 15.0, False, "float64"),
    ("morse", 15.0, True, "float64"),
]
REST = [
    ("lennard_jones", 15.0, False, "float64"),
    ("lennard_jones", 5.0, True, "float64"),
    ("lennard_jones", 5.0, False, "float32"),
    ("soft_sphere", 5.0, True, "float64"),
    ("morse", 5.0, False, "float64"),
]
COMBINATIONS += [pytest.param(*each, marks=pytest.mark.slow) for each in REST]


@pytest.mark.parametrize(("name", "box", "fractional", "dtype"), COMBINATIONS)
def test_lists_give_what_all_pairs_give(name, box, fractional, dtype):
    pair_form, list_form = POTENTIALS[name]
    displacement, _ = space.periodic_general(box, fractional_coordinates=fractional)
    R = liquid(box, dtype) / (box if fractional else 1)
    p = {"sigma": 1.3} if name == "soft_sphere" else {"r_onset": 1.7, "r_cutoff": 2.2}
    expected, slope = jax.jit(jax.value_and_grad(pair_form(displacement, **p)))(R)
    assert expected.dtype == slope.dtype == dtype
    scale = float(jnp.max(jnp.abs(slope)))
    for format in FORMATS:
        neighbor_fn, energy_fn = list_form(
            displacement, box, fractional_coordinates=fractional, format=format, **p
        )
        nbrs = neighbor_fn.allocate(R)
        call = lambda R: energy_fn(R, neighbor=nbrs, t=0.0)  # noqa: E731
        value, dE = jax.jit(jax.value_and_grad(call))(R)
        assert value.dtype == dE.dtype == dtype
        np.testing.assert_allclose(value, expected, rtol=RTOL[dtype])
        np.testing.assert_allclose(dE, slope, atol=RTOL[dtype] * scale)
    np.testing.assert_allclose(energy_fn(R, nbrs), expected, rtol=RTOL[dtype])


@pytest.mark.parametrize("name", POTENTIALS)
def test_values_of_single_particles(name):
    pair_form, list_form = POTENTIALS[name]
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)
    each = pair_form(displacement, per_particle=True)(R)
    total = pair_form(displacement)(R)
    np.testing.assert_allclose(jnp.sum(each), total, rtol=1e-12)
    neighbor_fn, energy_fn = list_form(
        displacement, 5.0, per_particle=True, format=partition.Dense
    )
    listed = energy_fn(R, neighbor_fn.allocate(R))
    np.testing.assert_allclose(listed, each, rtol=1e-11, atol=1e-12)


def test_species_and_values_at_call_time():
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)
    species = np.arange(len(R)) % 2
    sigma = np.array([[1.0, 0.9], [0.9, 0.8]])
    matrix = sigma[species][:, species]
    expected = energy.lennard_jones_pair(displacement, sigma=matrix)(R)
    p = {"species": species, "sigma": sigma}
    by_table = energy.lennard_jones_pair(displacement, **p)
    np.testing.assert_allclose(by_table(R), expected, rtol=1e-12)
    each = energy.lennard_jones_pair(displacement, per_particle=True, **p)(R)
    np.testing.assert_allclose(jnp.sum(each), expected, rtol=1e-12)
    # The cutoff follows the largest sigma of the factory, here 1 as well.
    late = energy.lennard_jones_pair(displacement, species=species)
    np.testing.assert_allclose(late(R, sigma=sigma), expected, rtol=1e-12)
    for format in FORMATS:
        neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement, 5.0, format=format, **p
        )
        nbrs = neighbor_fn.allocate(R)
        np.testing.assert_allclose(energy_fn(R, nbrs), expected, rtol=1e-12)
        neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement, 5.0, format=format
        )
        value = energy_fn(R, nbrs, sigma=sigma, species=species)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_parameters_do_not_promote_positions():
    """Double-precision tables beside single-precision positions."""
    displacement, _ = space.periodic(5.0)
    R, n = liquid(5.0, "float32"), 40
    for sigma in (np.ones(n), jnp.ones((n, n)), np.float64(1.0), 1):
        p = {"sigma": sigma, "epsilon": np.float64(1)}
        assert energy.lennard_jones_pair(displacement, **p)(R).dtype == "float32"
        neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement, 5.0, **p
        )
        assert energy_fn(R, neighbor_fn.allocate(R)).dtype == "float32"


@pytest.mark.parametrize("cutoff_fn", [energy.smooth_cutoff, energy.sharp_cutoff])
def test_the_cutoff_can_be_chosen(cutoff_fn):
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)
    cut = cutoff_fn(energy.morse, 1.5, 2.0)
    expected = smap.pair(cut, space.metric(displacement))(R)
    p = {"r_onset": 1.5, "r_cutoff": 2.0, "cutoff_fn": cutoff_fn}
    np.testing.assert_allclose(energy.morse_pair(displacement, **p)(R), expected)
    neighbor_fn, energy_fn = energy.morse_neighbor_list(displacement, 5.0, **p)
    value = energy_fn(R, neighbor_fn.allocate(R))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_cutoffs_of_lennard_jones_are_in_units_of_sigma():
    displacement, _ = space.free()
    for r, zero in ((2.5 * 1.2 - 0.01, False), (2.5 * 1.2, True)):
        R = jnp.array([[0.0, 0, 0], [r, 0, 0]])
        assert (energy.lennard_jones_pair(displacement, sigma=1.2)(R) == 0) == zero
    for r, zero in ((2.49, False), (2.5, True)):
        R = jnp.array([[0.0, 0, 0], [r, 0, 0]])
        assert (energy.morse_pair(displacement, sigma=1.2)(R) == 0) == zero


def differences(f, x, h=1e-6):
    return jnp.stack([(f(x + s) - f(x - s)) / (2 * h) for s in jnp.eye(len(x)) * h])


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("lennard_jones", False),
        ("lennard_jones", True),
        ("soft_sphere", True),
        pytest.param("soft_sphere", False, marks=pytest.mark.slow),
        pytest.param("morse", False, marks=pytest.mark.slow),
        pytest.param("morse", True, marks=pytest.mark.slow),
    ],
)
def test_parameter_derivatives_through_the_factory(name, listed):
    """The factory is called inside of the function that is differentiated."""
    pair_form, list_form = POTENTIALS[name]
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)
    nbrs = list_form(displacement, 5.0, dr_threshold=0.6)[0].allocate(R)

    @jax.jit
    def f(x):
        if listed:
            _, energy_fn = list_form(displacement, 5.0, sigma=x[0], epsilon=x[1])
            return energy_fn(R, nbrs)
        return pair_form(displacement, sigma=x[0], epsilon=x[1])(R)

    x = jnp.array([1.05, 0.7])
    by_difference = differences(f, x)
    np.testing.assert_allclose(jax.grad(f)(x), by_difference, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(f)(x), by_difference, rtol=1e-6)
    assert np.all(np.isfinite(jax.hessian(f)(x)))


def test_a_list_of_a_traced_cutoff_says_what_to_do():
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)

    def f(sigma):
        neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement, 5.0, sigma=sigma
        )
        return energy_fn(R, neighbor_fn.allocate(R))

    with pytest.raises(ValueError, match="`sigma` is traced.*sigma=value"):
        jax.grad(f)(1.0)
    with pytest.raises(ValueError, match="largest `sigma`"):
        energy.lennard_jones_pair(displacement, sigma=lambda a, b: a)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coincident_particles(name, dtype):
    """Second derivatives, mixed ones too, are finite where two particles coincide."""
    pair_form, list_form = POTENTIALS[name]
    displacement, _ = space.periodic(15.0)
    R = jnp.array([[1.0, 1, 1], [1, 1, 1], [2.1, 1, 1]], dtype)
    nbrs = list_form(displacement, 15.0, format=partition.Dense)[0]
    nbrs = nbrs.allocate(R, extra_capacity=1)
    forms = [pair_form(displacement)]
    if dtype == "float64":
        energy_fn = list_form(displacement, 15.0, format=partition.Dense)[1]
        forms.append(lambda R, **kw: energy_fn(R, nbrs, **kw))
    for form in forms:
        f = lambda x: form(x[:-1].reshape(3, 3), sigma=x[-1])  # noqa: E731
        x = jnp.append(R.reshape(-1), jnp.asarray(1.1, dtype))
        for derivative in (jax.grad(f), jax.jacfwd(jax.grad(f))):
            assert np.all(np.isfinite(jax.jit(derivative)(x)))


@pytest.mark.parametrize("listed", [False, True])
def test_derivative_of_a_trajectory_in_sigma(listed):
    """Through twenty steps of velocity Verlet, against differences."""
    displacement, shift = space.periodic(5.0)
    R = liquid(5.0, n=20)
    V = jnp.asarray(np.random.default_rng(1).normal(size=R.shape)) * 0.3
    neighbor_fn, listed_energy = energy.lennard_jones_neighbor_list(
        displacement, 5.0, cutoff_fn=energy.smooth_cutoff, r_cutoff=2.3, r_onset=1.6
    )
    nbrs = neighbor_fn.allocate(R)
    pair_energy = energy.lennard_jones_pair(
        displacement, cutoff_fn=energy.smooth_cutoff, r_cutoff=2.3, r_onset=1.6
    )

    @jax.jit
    def final(sigma):
        def total(R):
            kw = {"sigma": sigma}
            return listed_energy(R, nbrs, **kw) if listed else pair_energy(R, **kw)

        force = lambda R: -jax.grad(total)(R)  # noqa: E731

        def step(carry, _):
            R, V, F = carry
            V = V + 0.0025 * F
            R = shift(R, 0.005 * V)
            F = force(R)
            return (R, V + 0.0025 * F, F), None

        (R1, _, _), _ = jax.lax.scan(step, (R, V, force(R)), None, length=20)
        return jnp.sum(jax.vmap(displacement)(R1, R) ** 2)

    h = 1e-5
    by_difference = (final(1 + h) - final(1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(final)(1.0), by_difference, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(final)(1.0), by_difference, rtol=1e-6)


def test_replaced_list_functions_get_both_flags():
    """What stands in for the list and for the sum is called as the originals are."""
    displacement, _ = space.periodic_general(5.0)
    calls = {}

    def lists(*args, **kwargs):
        calls["list"] = args, kwargs
        return partition.neighbor_list(*args, **kwargs)

    def sums(fn, *args, **kwargs):
        calls["sum"] = kwargs
        return smap.pair_neighbor_list(fn, *args, **kwargs)

    neighbor_fn, energy_fn = energy.morse_neighbor_list(
        displacement,
        5.0,
        fractional_coordinates=True,
        neighbor_list_fn=lists,
        pair_neighbor_list_fn=sums,
        disable_cell_list=True,
    )
    args, kwargs = calls["list"]
    assert args == (displacement, 5.0, 2.5, 0.5)
    assert kwargs["fractional_coordinates"] and kwargs["disable_cell_list"]
    assert calls["sum"]["fractional_coordinates"] is True
    R = liquid(5.0) / 5
    expected = energy.morse_pair(displacement)(R)
    value = energy_fn(R, neighbor_fn.allocate(R))
    np.testing.assert_allclose(value, expected, rtol=1e-11)


def test_signatures_and_docstrings_are_those_of_written_functions():
    signature = inspect.signature(energy.lennard_jones_neighbor_list)
    assert (
        list(signature.parameters)
        == (
            "displacement_or_metric box_size species sigma epsilon r_onset r_cutoff "
            "dr_threshold per_particle fractional_coordinates format neighbor_list_fn "
            "pair_neighbor_list_fn cutoff_fn neighbor_kwargs"
        ).split()
    )
    defaults = {k: p.default for k, p in signature.parameters.items()}
    assert (defaults["sigma"], defaults["r_cutoff"]) == (1.0, 2.5)
    assert defaults["format"] is partition.OrderedSparse
    assert defaults["neighbor_list_fn"] is partition.neighbor_list
    doc = inspect.getdoc(energy.lennard_jones_neighbor_list)
    assert all(f"{name}: " in doc for name in signature.parameters)
    assert "Where the energy is zero" in doc
    with pytest.raises(TypeError, match="sgima"):
        energy.lennard_jones_pair(space.free()[0], sgima=1.0)


def test_promote_a_function_of_ones_own():
    def gaussian(dr, height=1.0):
        return height * jnp.exp(-(dr**2))

    gaussian_pair, gaussian_neighbor_list = energy.promote(
        gaussian, r_onset=1.5, r_cutoff=2.0
    )
    displacement, _ = space.periodic(5.0)
    R = liquid(5.0)
    expected = gaussian_pair(displacement, height=2.0)(R)
    assert expected > 0
    neighbor_fn, energy_fn = gaussian_neighbor_list(displacement, 5.0, height=2.0)
    np.testing.assert_allclose(energy_fn(R, neighbor_fn.allocate(R)), expected)
    with pytest.raises(ValueError, match="either `r_onset`"):
        energy.promote(gaussian)


def test_springs():
    displacement, _ = space.free()
    R = jnp.array([[0.0, 0, 0], [1.5, 0, 0], [1.5, 0.7, 0]])
    bonds = np.array([[0, 1], [1, 2]])
    E = energy.simple_spring_bond(displacement, bonds)
    np.testing.assert_allclose(E(R), 0.5 * (0.25 + 0.09), rtol=1e-12)
    k, types = np.array([1.0, 3.0]), np.array([1, 0])
    E = energy.simple_spring_bond(displacement, bonds, types, length=0.9, epsilon=k)
    np.testing.assert_allclose(E(R), 0.5 * (3 * 0.36 + 0.04), rtol=1e-12)
    np.testing.assert_allclose(E(R, epsilon=2 * k, t=0.0), 2 * E(R), rtol=1e-12)
