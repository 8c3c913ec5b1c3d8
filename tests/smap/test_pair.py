"""Sums over all pairs and over neighbor lists: every form of parameter, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import partition, smap, space

Tree, Map = smap.ParameterTree, smap.ParameterTreeMapping
N, BOX, CUT = 12, 4.0, 1.9
RTOL = {"float32": 2e-5, "float64": 1e-12}
FORMATS = list(partition.NeighborListFormat)


def positions(dtype="float64", dim=3):
    grid = np.stack(np.meshgrid(*[np.arange(3)] * dim, indexing="ij"), -1)
    R = grid.reshape(-1, dim)[:N] if dim > 2 else np.arange(N * dim).reshape(N, dim)
    R = R % 3 * 1.2 + np.random.default_rng(0).normal(size=R.shape) * 0.15
    return jnp.asarray(R % BOX, dtype)


def periodic():
    displacement, _ = space.periodic(BOX)
    return displacement, space.metric(displacement)


def bump(dr, sigma=1.0, epsilon=1.0, **unused):
    """Diverges at zero and vanishes smoothly at the cutoff."""
    inside = dr < CUT
    x = jnp.where(inside, 1 - (dr / CUT) ** 2, 0)
    return jnp.where(inside, epsilon * (sigma / dr) ** 6 * x**4, 0)


def brute(R, sigma, epsilon, half=True):
    """The sum by loops in numpy, parameters given as functions of (i, j)."""
    R = np.asarray(R, "float64")
    out = np.zeros(N)
    for i in range(N):
        for j in range(N):
            if i == j:
                continue
            d = R[i] - R[j]
            r = np.linalg.norm(d - BOX * np.round(d / BOX))
            if r < CUT:
                x = 1 - (r / CUT) ** 2
                out[i] += 0.5 * epsilon(i, j) * (sigma(i, j) / r) ** 6 * x**4
    return out


rng = np.random.default_rng(1)
S = rng.uniform(0.9, 1.1, N)
M = rng.uniform(0.9, 1.1, (N, N))
M = (M + M.T) / 2
T = rng.uniform(0.9, 1.1, (3, 3))
T = (T + T.T) / 2
SPECIES = np.arange(N) % 3


def geometric(a, b):
    return jnp.sqrt(a * b)


def one(i, j):
    return 1.0


# name: (static, dynamic, species, value of the pair)
FORMS = {
    "scalar": ({"sigma": 1.1}, {}, None, lambda i, j: 1.1),
    "0-d": ({"sigma": jnp.array(1.1)}, {}, None, lambda i, j: 1.1),
    "particle": ({"sigma": S}, {}, None, lambda i, j: (S[i] + S[j]) / 2),
    "call time": ({"sigma": 1.0}, {"sigma": S}, None, lambda i, j: (S[i] + S[j]) / 2),
    "tuple": (
        {"sigma": (geometric, S)},
        {},
        None,
        lambda i, j: np.sqrt(S[i] * S[j]),
    ),
    "combinator": (
        {"sigma": geometric},
        {"sigma": S},
        None,
        lambda i, j: np.sqrt(S[i] * S[j]),
    ),
    "matrix": ({"sigma": M}, {}, None, lambda i, j: M[i, j]),
    "species": ({"sigma": T}, {}, SPECIES, lambda i, j: T[i % 3, j % 3]),
    "species call time": (
        {"sigma": 1.0},
        {"sigma": T},
        SPECIES,
        lambda i, j: T[i % 3, j % 3],
    ),
}


def same_sum(actual, expected, dtype):
    np.testing.assert_allclose(actual, expected, rtol=RTOL[dtype], atol=0)
    assert actual.dtype == dtype


@pytest.mark.parametrize(
    ("form", "dtype"),
    [(form, "float64") for form in FORMS]
    + [(form, "float32") for form in ("scalar", "particle", "species")],
)
def test_forms_of_parameters(form, dtype):
    static, dynamic, species, value = FORMS[form]
    R, (displacement, metric) = positions(dtype), periodic()
    expected = brute(R, value, one).sum()
    energy = smap.pair(bump, metric, species=species, **static)
    same_sum(energy(R, **dynamic), expected, dtype)
    for format in FORMATS:
        nbrs = partition.neighbor_list(displacement, BOX, CUT, format=format)
        energy = smap.pair_neighbor_list(bump, metric, species=species, **static)
        same_sum(energy(R, nbrs.allocate(R), **dynamic), expected, dtype)


def tree_bump(dr, p, **unused):
    return bump(dr, p["sigma"], p["epsilon"])


@pytest.mark.parametrize("mapping", list(Map))
def test_parameter_trees(mapping):
    shapes = {Map.Global: (), Map.PerParticle: (N,), Map.PerBond: (N, N)}
    shape = shapes.get(mapping, (3, 3))
    species = SPECIES if mapping is Map.PerSpecies else None
    draw = np.random.default_rng(2).uniform(0.9, 1.1, (2, *shape))
    if len(shape) == 2:
        draw = (draw + draw.transpose(0, 2, 1)) / 2
    read = {
        Map.Global: lambda p, i, j: p,
        Map.PerParticle: lambda p, i, j: (p[i] + p[j]) / 2,
        Map.PerBond: lambda p, i, j: p[i, j],
        Map.PerSpecies: lambda p, i, j: p[i % 3, j % 3],
    }[mapping]
    R, (displacement, metric) = positions(), periodic()
    expected = brute(
        R, lambda i, j: read(draw[0], i, j), lambda i, j: read(draw[1], i, j)
    )
    tree = Tree({"sigma": draw[0], "epsilon": draw[1]}, mapping)
    energy = smap.pair(tree_bump, metric, species=species, p=tree)
    same_sum(energy(R), expected.sum(), "float64")
    for format in FORMATS:
        nbrs = partition.neighbor_list(displacement, BOX, CUT, format=format).allocate(
            R
        )
        energy = smap.pair_neighbor_list(tree_bump, metric, species=species, p=tree)
        same_sum(energy(R, nbrs), expected.sum(), "float64")


def test_species_given_as_a_number():
    R, (displacement, metric) = positions(), periodic()
    expected = brute(R, lambda i, j: T[i % 3, j % 3], one)
    energy = smap.pair(bump, metric, species=3, reduce_axis=(1,), sigma=T)
    np.testing.assert_allclose(energy(R, SPECIES), expected, rtol=1e-12)
    np.testing.assert_allclose(energy(R, species=SPECIES), expected, rtol=1e-12)
    # A label outside of the count takes part in nothing.
    absent = np.where(np.arange(N) < 2, SPECIES, 3)
    d = metric(R[0], R[1])
    value = bump(d, T[0, 1])
    np.testing.assert_allclose(energy(R, absent)[:3], [value / 2, value / 2, 0])
    nbrs = partition.neighbor_list(displacement, BOX, CUT).allocate(R)
    energy = smap.pair_neighbor_list(bump, metric, species=3, sigma=T)
    total = energy(R, nbrs, species=SPECIES)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-12)


def test_a_table_is_read_above_its_diagonal():
    """An unordered pair of species has one entry, that of (smaller, larger)."""
    R, (_, metric) = positions(), periodic()
    upper = np.triu(T)
    one_sided = smap.pair(bump, metric, species=SPECIES, sigma=upper)(R)
    np.testing.assert_allclose(
        one_sided, smap.pair(bump, metric, species=SPECIES, sigma=T)(R), rtol=1e-12
    )


@pytest.mark.parametrize("format", FORMATS)
def test_reduce_axis(format):
    R, (displacement, metric) = positions(), periodic()
    nbrs = partition.neighbor_list(displacement, BOX, CUT, format=format).allocate(R)

    def reduced(axis):
        return smap.pair_neighbor_list(bump, metric, reduce_axis=axis)(R, nbrs)

    per_particle = brute(R, one, one)
    np.testing.assert_allclose(reduced((0, 1)), per_particle.sum(), rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(reduced(())), per_particle.sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="not over neighbors"):
        reduced((0,))
    if format is partition.OrderedSparse:
        with pytest.raises(ValueError, match="Dense or a Sparse"):
            reduced((1,))
        return
    whole = smap.pair(bump, metric, reduce_axis=(1,))(R)
    for axis in ((1,), (-1,)):
        np.testing.assert_allclose(reduced(axis), per_particle, rtol=1e-12)
        np.testing.assert_allclose(reduced(axis), whole, rtol=1e-12)


@pytest.mark.parametrize("format", FORMATS)
def test_vector_functions(format):
    R, (displacement, _) = positions(), periodic()

    def virial(dR, **unused):
        return dR**2 * bump(space.distance(dR))[..., None]

    whole = smap.pair(virial, displacement, reduce_axis=(0, 1))(R)
    nbrs = partition.neighbor_list(displacement, BOX, CUT, format=format).allocate(R)
    listed = smap.pair_neighbor_list(virial, displacement, reduce_axis=(0, 1))
    np.testing.assert_allclose(listed(R, nbrs), whole, rtol=1e-12)
    all_axes = smap.pair_neighbor_list(virial, displacement, reduce_axis=(0, 1, 2))
    np.testing.assert_allclose(all_axes(R, nbrs), whole.sum(), rtol=1e-12)
    if format is not partition.OrderedSparse:
        rows = smap.pair_neighbor_list(virial, displacement, reduce_axis=(1,))
        expected = smap.pair(virial, displacement, reduce_axis=(1,))(R)
        np.testing.assert_allclose(rows(R, nbrs), expected, rtol=1e-12)


@pytest.mark.parametrize("format", [None, partition.Dense, partition.Sparse])
@pytest.mark.parametrize("edited", [False, True])
def test_displacements_lead_to_the_neighbor(format, edited):
    """From the particle to its partner, on the engine, the plain path, all pairs."""
    R, (displacement, _) = positions(), periodic()

    def odd(dR, **unused):
        return dR * bump(space.distance(dR))[..., None]

    dR = np.asarray(R)[None] - np.asarray(R)[:, None]
    dR -= BOX * np.round(dR / BOX)
    r = np.linalg.norm(dR, axis=-1) + np.eye(N)
    expected = (dR * np.asarray(bump(r))[..., None]).sum(1) / 2
    if format is None:
        out = smap.pair(odd, displacement, reduce_axis=(1,))(R)
    else:
        nbrs = partition.neighbor_list(displacement, BOX, CUT, format=format)
        nbrs = nbrs.allocate(R)
        nbrs = nbrs.set(idx=nbrs.idx) if edited else nbrs
        out = smap.pair_neighbor_list(odd, displacement, reduce_axis=(1,))(R, nbrs)
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_keepdims():
    R, (_, metric) = positions(), periodic()
    energy = smap.pair(bump, metric, reduce_axis=(1,), keepdims=True)
    assert energy(R).shape == (N, 1)


def diverging(dr, sigma=1.0, **unused):
    return (sigma / dr) ** 6


@pytest.mark.parametrize("format", [None, *FORMATS])
def test_a_diverging_function_has_finite_derivatives(format):
    """Masked pairs add zero to every derivative, of second order and mixed too."""
    R, (displacement, _) = positions()[:6], space.free()

    def naive_metric(Ra, Rb, **unused):
        return jnp.sqrt(jnp.sum((Ra - Rb) ** 2))  # no derivative at zero

    if format is None:
        energy = smap.pair(diverging, naive_metric)
    else:
        nbrs = partition.neighbor_list(displacement, 20.0, 9.0, format=format)
        nbrs = nbrs.allocate(R, extra_capacity=2)
        listed = smap.pair_neighbor_list(diverging, naive_metric)
        energy = lambda R, **kw: listed(R, nbrs, **kw)  # noqa: E731

    def by_hand(R, sigma):
        i, j = np.triu_indices(6, 1)
        d = R[i] - R[j]
        return jnp.sum(sigma**6 / jnp.sum(d**2, -1) ** 3)

    flat = lambda x: energy(x[:-1].reshape(6, 3), sigma=x[-1])  # noqa: E731
    reference = lambda x: by_hand(x[:-1].reshape(6, 3), x[-1])  # noqa: E731
    x = jnp.append(R.reshape(-1), 1.1)
    for derivative in (jax.grad, jax.hessian):
        expected = jax.jit(derivative(reference))(x)
        scale = jnp.max(jnp.abs(expected))
        actual = jax.jit(derivative(flat))(x)
        np.testing.assert_allclose(actual, expected, atol=1e-12 * scale)


@pytest.mark.parametrize("format", FORMATS)
def test_an_excluded_pair_may_coincide(format):
    """Empty slots stay harmless where the particles they read coincide."""
    R, (displacement, metric) = positions()[:6], periodic()
    R = R.at[1].set(R[0])

    def exclude(idx):
        row = jnp.arange(6)[:, None]
        return jnp.where((row < 2) & (idx < 2), 6, idx)

    nbrs = partition.neighbor_list(
        displacement, BOX, CUT, custom_mask_function=exclude, format=format
    ).allocate(R, extra_capacity=2)
    energy = smap.pair_neighbor_list(diverging, metric)
    value, slope = jax.value_and_grad(lambda R, s: energy(R, nbrs, sigma=s), (0, 1))(
        R, 1.1
    )
    np.testing.assert_allclose(slope[1], 6 * value / 1.1, rtol=1e-12)
    assert np.all(np.isfinite(slope[0])) and value > 0


def test_a_particle_alone_has_no_energy():
    _, metric = periodic()
    energy = smap.pair(diverging, metric)
    R = jnp.ones((1, 3))
    value, slopes = jax.value_and_grad(lambda R, s: energy(R, sigma=s), (0, 1))(R, 1.1)
    assert value == 0 and not any(map(np.any, slopes))


def test_species_labels_are_checked():
    R, (_, metric) = positions(), periodic()
    for species in (np.ones(N), [0] * N, np.ones((N, 1), int), "ab", True):
        with pytest.raises(ValueError, match="species"):
            smap.pair(bump, metric, species=species)
    with pytest.raises(ValueError, match="one label a particle"):
        smap.pair(bump, metric, species=np.zeros(N + 1, int))(R)


@pytest.mark.parametrize(
    ("species", "sigma"),
    [
        (None, np.ones((2, 2, 2))),
        (None, np.ones(N + 1)),
        (None, np.ones((3, 3))),
        (None, Tree(np.ones((3, 3)), Map.PerSpecies)),
        (None, "a"),
        (SPECIES, np.ones(N)),
        (SPECIES, np.ones((3, 3, 3))),
        (SPECIES, Tree(np.ones(N), Map.PerParticle)),
        (SPECIES, Tree(np.ones((N, N)), Map.PerBond)),
        (SPECIES, (geometric, np.ones(N))),
    ],
)
def test_forms_without_meaning_are_refused(species, sigma):
    R, (_, metric) = positions(), periodic()
    with pytest.raises(ValueError, match="sigma"):
        smap.pair(bump, metric, species=species, sigma=sigma)(R)


def test_neighbor_list_refuses_combinators_of_tables():
    R, (displacement, metric) = positions(), periodic()
    nbrs = partition.neighbor_list(displacement, BOX, CUT).allocate(R)
    energy = smap.pair_neighbor_list(bump, metric, SPECIES, sigma=(geometric, T))
    with pytest.raises(ValueError, match="combinator"):
        energy(R, nbrs)


def test_neighbor_list_combines_particles_beside_species():
    R, (displacement, metric) = positions(), periodic()
    nbrs = partition.neighbor_list(displacement, BOX, CUT).allocate(R)
    energy = smap.pair_neighbor_list(bump, metric, SPECIES, sigma=S, epsilon=T)
    expected = brute(R, lambda i, j: (S[i] + S[j]) / 2, lambda i, j: T[i % 3, j % 3])
    np.testing.assert_allclose(energy(R, nbrs), expected.sum(), rtol=1e-12)


def test_keywords_at_call_time():
    R, (_, metric) = positions(), periodic()
    strict = lambda dr, sigma: bump(dr, sigma)  # noqa: E731
    energy = smap.pair(strict, metric, sigma=1.0)
    with pytest.raises(TypeError, match="sgima"):
        energy(R, sgima=2.0)
    ignoring = smap.pair(strict, metric, sigma=1.0, ignore_unused_parameters=True)
    assert ignoring(R, sgima=2.0) == energy(R)
    assert ignoring(R, sigma=1.1) == energy(R, sigma=1.1) != energy(R)
    # What steers the space does not disturb a function that has no place for it.
    grown = energy(R, perturbation=jnp.eye(3) * 1.01)
    assert grown < energy(R)
    by_combinator = smap.pair(
        strict, metric, sigma=geometric, ignore_unused_parameters=True
    )
    np.testing.assert_allclose(
        by_combinator(R, sigma=S), smap.pair(strict, metric, sigma=(geometric, S))(R)
    )


def test_box_reaches_the_displacement_only():
    """A box [3] beside 12 particles is no array of parameters."""
    displacement, _ = space.periodic_general(BOX)
    s = positions() / BOX
    energy = smap.pair(bump, space.metric(displacement))
    box = jnp.full(3, BOX)
    np.testing.assert_allclose(energy(s, box=box, kT=1.0), energy(s), rtol=1e-12)


def test_private_helpers():
    f = smap._get_species_parameters
    table = jnp.arange(9.0).reshape(3, 3)
    assert f(2.5, (0, 1)) == 2.5
    assert f(table, (1, 2)) == 5
    assert f(Tree({"a": table}, Map.PerSpecies), (2, 1))["a"] == 7
    assert f(Tree(table, Map.Global), (2, 1)) is table
    with pytest.raises(ValueError):
        f(jnp.ones(3), (0, 1))
    g, add = smap._get_matrix_parameters, lambda a, b: a + b
    p = jnp.arange(3.0)
    np.testing.assert_array_equal(g(p, add), p[:, None] + p)
    assert g(table, add) is table and g(1.5, add) == 1.5
    with pytest.raises(ValueError):
        g(jnp.ones((2, 2, 2)), add)
    masked = smap._diagonal_mask(jnp.full((2, 2), jnp.inf))
    np.testing.assert_array_equal(masked, [[0, jnp.inf], [jnp.inf, 0]])
    for shape in ((2, 3), (2, 2, 2, 2), (2,)):
        with pytest.raises(ValueError, match="shape"):
            smap._diagonal_mask(jnp.ones(shape))
