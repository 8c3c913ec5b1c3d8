"""Embedded-atom potentials. The numbers of LAMMPS are in tests/reference."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, partition, space
from jax_md.energy.embedded_atom import cubic_pieces, evaluate_pieces

DATA = pathlib.Path(__file__).parents[2] / "examples" / "data"
CUTOFF = 3.0


def charge_fn(r):
    return jnp.where(r < CUTOFF, (1 - r / CUTOFF) ** 4, 0)


def embedding_fn(rho):
    return -rho + 0.2 * rho**2


def pairwise_fn(r):
    return jnp.where(r < CUTOFF, (1 - r / CUTOFF) ** 4 / r**2, 0)


FUNCTIONS = charge_fn, embedding_fn, pairwise_fn


def crystal(cells=3, lattice=2.4, jitter=0.1, dtype="float64"):
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1)
    R = (grid.reshape(-1, 1, 3) + basis).reshape(-1, 3) * lattice
    R = R + np.random.default_rng(0).normal(size=R.shape) * jitter
    return jnp.asarray(R % (cells * lattice), dtype), cells * lattice


def by_hand(R, box, self_density):
    d = np.asarray(R)[:, None] - np.asarray(R)[None]
    r = np.linalg.norm(d - box * np.round(d / box), axis=-1)
    off = ~np.eye(len(r), dtype=bool)
    r = np.where(off, r, 1.0)
    rho = np.sum(np.asarray(charge_fn(r)) * off, 1) + float(self_density)
    return embedding_fn(rho) + 0.5 * np.sum(np.asarray(pairwise_fn(r)) * off, 1)


@pytest.mark.parametrize("self_density", [True, False])
def test_energy_from_functions(self_density):
    R, box = crystal()
    displacement, _ = space.periodic(box)
    expected = by_hand(R, box, self_density)
    E = energy.eam(displacement, *FUNCTIONS, self_density=self_density)
    np.testing.assert_allclose(E(R), expected.sum(), rtol=1e-12)
    each = energy.eam(displacement, *FUNCTIONS, axis=(), self_density=self_density)
    np.testing.assert_allclose(each(R), expected, rtol=1e-12)
    for format in partition.NeighborListFormat:
        neighbor_fn, E = energy.eam_neighbor_list(
            displacement,
            box,
            *FUNCTIONS,
            CUTOFF,
            axis=(),
            fractional_coordinates=False,
            format=format,
            self_density=self_density,
        )
        np.testing.assert_allclose(E(R, neighbor_fn.allocate(R)), expected, rtol=1e-12)


def test_the_density_of_an_atom_at_its_own_place_counts_by_default():
    R, box = crystal()
    displacement, _ = space.periodic(box)
    E = energy.eam(displacement, *FUNCTIONS)
    np.testing.assert_allclose(E(R), by_hand(R, box, True).sum(), rtol=1e-12)


def test_ordered_lists():
    """A format that shows each pair once serves sums over all neighbors, too."""
    R, box = crystal()
    displacement, _ = space.periodic(box)
    results = []
    for format in (partition.Dense, partition.OrderedSparse):
        neighbor_fn, E = energy.embedded_atom_neighbor_list(
            displacement, box, copper(), per_particle=True, format=format
        )
        neighbors = neighbor_fn.allocate(R)
        assert neighbors.format is format
        results.append(jax.vjp(lambda R: E(R, neighbors), R))  # noqa: B023
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-12)
    weights = jnp.linspace(1.0, 2.0, len(R))
    forces = [pull(weights)[0] for _, pull in results]
    np.testing.assert_allclose(forces[1], forces[0], rtol=1e-10, atol=1e-12)


def copper():
    return energy.eam_from_file(DATA / "Cu_u3.eam")


def test_pieces_meet_the_table_and_are_smooth():
    x = np.linspace(0, 3, 31)
    pieces = cubic_pieces(np.sin(x))
    at = lambda r: evaluate_pieces(pieces, r / 0.1)  # noqa: E731
    np.testing.assert_allclose(at(jnp.asarray(x)), np.sin(x), atol=1e-14)
    r = np.linspace(0.25, 2.75, 97)
    np.testing.assert_allclose(at(jnp.asarray(r)), np.sin(r), atol=2e-6)
    slope = jax.vmap(jax.grad(at))
    np.testing.assert_allclose(slope(jnp.asarray(r)), np.cos(r), atol=2e-4)
    np.testing.assert_allclose(
        slope(jnp.asarray(x[1:-1] - 1e-9)),
        slope(jnp.asarray(x[1:-1] + 1e-9)),
        atol=1e-7,
    )
    # Beyond the table along the tangent, whatever the distance.
    end = (np.sin(3.0) - np.sin(2.9)) / 0.1
    np.testing.assert_allclose(at(jnp.array(5.0)), np.sin(3.0) + 2 * end, rtol=1e-12)
    assert jax.hessian(at)(5.0) == 0


def test_copper():
    """Lattice constant, cohesive energy and bulk modulus of the potential's paper."""
    cells = 4
    displacement, _ = space.periodic_general(1.0)
    R = crystal(cells, 1.0, 0.0)[0] / cells
    E = energy.embedded_atom_pair(displacement, copper())
    # Three cells of the cubic lattice are narrower than twice the cutoff; four are not.
    per_atom = jax.jit(lambda a: E(R, box=cells * a) / len(R))
    a = 3.615
    slope, bend = jax.grad(per_atom)(a), jax.hessian(per_atom)(a)
    np.testing.assert_allclose(per_atom(a), -3.54, atol=0.005)
    np.testing.assert_allclose(slope, 0, atol=2e-3)
    # B = V d2E/dV2 = (4 / 9a) d2E/da2 in eV / A^3; the paper gives 1.38 Mbar.
    np.testing.assert_allclose(4 / (9 * a) * bend * 1.602176634, 1.38, rtol=0.02)


@pytest.mark.parametrize(
    ("dtype", "fractional"), [("float32", True), ("float64", False)]
)
def test_lists_give_what_all_pairs_give(dtype, fractional):
    R, box = crystal(4, 3.6, 0.1, dtype)
    R = R[:100]
    displacement, _ = space.periodic_general(box, fractional_coordinates=fractional)
    R = R / box if fractional else R
    species = jnp.arange(len(R)) % 2
    potential = energy.eam_from_file(DATA / "CuNi.eam.alloy", ["Cu", "Ni"])
    E = energy.embedded_atom_pair(displacement, potential, species)
    expected, slope = jax.jit(jax.value_and_grad(E))(R)
    assert expected.dtype == slope.dtype == dtype
    neighbor_fn, E = energy.embedded_atom_neighbor_list(
        displacement, box, potential, fractional_coordinates=fractional
    )
    nbrs = neighbor_fn.allocate(R)
    listed = jax.jit(jax.value_and_grad(lambda R: E(R, nbrs, species=species)))(R)
    rtol = 1e-12 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(listed[0], expected, rtol=rtol)
    scale = jnp.max(jnp.abs(slope))
    np.testing.assert_allclose(listed[1], slope, atol=rtol * scale)


def test_elements_can_be_chosen_and_are_checked():
    file = DATA / "CuNi.eam.alloy"
    potential = energy.eam_from_file(file)
    assert potential.elements == ("Ni", "Cu")
    swapped = energy.eam_from_file(file, ["Cu", "Ni"])
    np.testing.assert_array_equal(swapped.pair[1, 0], potential.pair[0, 1])
    np.testing.assert_array_equal(swapped.density[0, 0], potential.density[1, 1])
    with pytest.raises(ValueError, match="Zn.*Ni, Cu"):
        energy.eam_from_file(file, ["Cu", "Zn"])


def test_derivatives_match_differences():
    """Both modes and the second order; a pair of coincident atoms stays finite."""
    R = crystal(2, 3.6, 0.15)[0][:6]
    E = energy.embedded_atom_pair(space.free()[0], copper())
    f = jax.jit(lambda x: E(x.reshape(-1, 3)))
    x = R.reshape(-1)
    slope = jax.jit(jax.grad(f))
    np.testing.assert_allclose(slope(x), jax.jit(jax.jacfwd(f))(x), rtol=1e-10)
    v, h = np.random.default_rng(3).normal(size=x.shape), 1e-6
    np.testing.assert_allclose(
        slope(x) @ v, (f(x + h * v) - f(x - h * v)) / (2 * h), rtol=1e-6
    )
    bend = jax.jit(jax.hessian(f))
    difference = (slope(x + h * v) - slope(x - h * v)) / (2 * h)
    np.testing.assert_allclose(bend(x) @ v, difference, rtol=1e-5, atol=1e-5)
    coincident = x.at[3:6].set(x[:3])
    assert np.all(np.isfinite(slope(coincident)))
    assert np.all(np.isfinite(bend(coincident)))


def test_the_tables_can_be_differentiated():
    """A potential is a tree: its coefficients can be fitted."""
    R = crystal(2, 3.6, 0.15)[0][:6]
    potential = copper()
    E = energy.embedded_atom_pair(space.free()[0], potential)
    value, slope = jax.value_and_grad(lambda p: E(R, potential=p))(potential)
    h = 1e-4
    moved = potential.set(density=potential.density * (1 + h))
    back = potential.set(density=potential.density * (1 - h))
    difference = (E(R, potential=moved) - E(R, potential=back)) / (2 * h)
    directional = jnp.sum(slope.density * potential.density)
    np.testing.assert_allclose(directional, difference, rtol=1e-6)
    assert value == E(R)


def write_setfl(path, elements=("Cu",)):
    """A potential written from its formulas."""
    n, d_r, d_rho = 301, CUTOFF / 300, 0.05
    r = np.arange(n) * d_r
    lines = ["made up", "of", "formulas", f"{len(elements)} {' '.join(elements)}"]
    lines.append(f"{n} {d_rho} {n} {d_r} {CUTOFF}")

    def table(values):
        return ["  ".join(f"{v:.17e}" for v in row) for row in np.split(values, [100])]

    for k, _ in enumerate(elements):
        lines.append(f"29 63.5 3.6 fcc{k}")
        lines += table(np.asarray(embedding_fn(np.arange(n) * d_rho)))
        lines += table((1 - r / CUTOFF) ** 4)
    for _ in range(len(elements) * (len(elements) + 1) // 2):
        lines += table(r * (1 - r / CUTOFF) ** 4)
    path.write_text("\n".join(lines))
    return path


def test_functions_of_a_single_element_from_a_file(tmp_path):
    R, box = crystal()
    displacement, _ = space.periodic(box)
    path = write_setfl(tmp_path / "x.eam.alloy")

    def on_pairs(r):
        return jnp.where(r < CUTOFF, (1 - r / CUTOFF) ** 4, 0)

    expected = energy.eam(displacement, charge_fn, embedding_fn, on_pairs)(R)
    with path.open() as f:
        E = energy.eam_from_lammps_parameters(displacement, f)
    np.testing.assert_allclose(E(R), expected, rtol=1e-6)
    s = R / box
    general, _ = space.periodic_general(box)
    neighbor_fn, E = energy.eam_from_lammps_parameters_neighbor_list(
        general, box, path, axis=(), capacity_multiplier=1.5
    )
    each = E(s, neighbor_fn.allocate(s))
    assert each.shape == (len(R),)
    np.testing.assert_allclose(jnp.sum(each), expected, rtol=1e-6)
    potential = energy.eam_from_file(path)
    literature = energy.eam(
        displacement, charge_fn, embedding_fn, on_pairs, self_density=False
    )
    E = energy.embedded_atom_pair(displacement, potential)
    np.testing.assert_allclose(E(R), literature(R), rtol=1e-6)
    with pytest.raises(ValueError, match="one element"):
        energy.load_lammps_eam_parameters(write_setfl(tmp_path / "y", ("A", "B")))
