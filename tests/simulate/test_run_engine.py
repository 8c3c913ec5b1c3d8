"""The run with the neighbor lists, energies and simulators of the package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, io, simulate, space
from jax_md.simulate.run import run

SIDE, CUTOFF = 6.3, 2.0


def start(dtype=np.float32):
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3)
    noise = np.random.default_rng(0).normal(0, 0.02, grid.shape)
    return jnp.asarray(grid * SIDE / 6 + noise, dtype)


@pytest.mark.slow  # five compilations of the list
def test_growth_and_restart_with_the_real_list(tmp_path):
    displacement, shift = space.periodic(SIDE)

    def fluid(room):
        neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement,
            SIDE,
            r_cutoff=CUTOFF,
            dr_threshold=0.3,
            capacity_multiplier=room,
        )
        simulator = simulate.nvt_langevin(energy_fn, shift, dt=2e-3, kT=1.2)
        return neighbor_fn, energy_fn, simulator

    neighbor_fn, energy_fn, simulator = fluid(1.0)
    neighbors = neighbor_fn.allocate(start())
    state = simulator.init(jax.random.key(0), start(), mass=1.0, neighbor=neighbors)
    options = {
        "neighbor_fn": neighbor_fn,
        "observe": {"U": lambda s, neighbor: energy_fn(s.position, neighbor=neighbor)},
        "every": 50,
    }
    tight = run(simulator, state, 300, **options)
    assert tight.report.growths and tight.report.rebuilds
    neighbor_fn, _, other = fluid(3.0)
    large = run(other, state, 300, neighbor_fn=neighbor_fn)
    assert not large.report.growths
    np.testing.assert_array_equal(tight.state.position, large.state.position)
    path = tmp_path / "c.npz"
    for last in (170, 300):
        part = run(simulator, state, last, checkpoint=path, restart=True, **options)
    same = (part.state.position, part.state.momentum, part.records["U"])
    whole = (tight.state.position, tight.state.momentum, tight.records["U"])
    for a, b in zip(same, whole, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError, match="kt"):
        run(simulator, state, 5, kt=1.0, **options)


def test_nothing_compiles_again_in_ten_thousand_steps():
    displacement, shift = space.periodic(SIDE)
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement, SIDE, r_cutoff=CUTOFF, dr_threshold=0.3, capacity_multiplier=2.0
    )
    simulator = simulate.nvt_langevin(energy_fn, shift, dt=2e-3, kT=1.2)
    neighbors = neighbor_fn.allocate(start())
    state = simulator.init(jax.random.key(0), start(), mass=1.0, neighbor=neighbors)
    compiled = []

    def listen(event, seconds, **facts):
        if "backend_compile" in event:
            compiled.append((event, facts))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        options = {"neighbor_fn": neighbor_fn, "neighbors": neighbors}
        first = run(simulator, state, 200, **options)
        assert compiled, "the listener hears compilations"
        compiled.clear()
        options["neighbors"] = first.neighbors
        report = run(simulator, first.state, 10_000, **options).report
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert report.rebuilds > 100 and not report.growths
    assert not compiled


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_calculator_with_the_real_list():
    ase = pytest.importorskip("ase")
    displacement, _ = space.periodic_general(jnp.eye(3) * SIDE)
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement,
        jnp.eye(3) * SIDE,
        r_cutoff=CUTOFF,
        dr_threshold=0.3,
        fractional_coordinates=True,
    )
    atoms = ase.Atoms(
        "Ar216", positions=start(np.float64), cell=np.eye(3) * SIDE, pbc=True
    )
    skew = np.array([[1, 0.03, 0.02], [0, 1, 0.01], [0.01, 0, 1]])  # not triangular
    atoms.set_cell(atoms.cell.array @ skew, scale_atoms=True)
    atoms.calc = io.Calculator(
        energy_fn, neighbor_fn=neighbor_fn, fractional_coordinates=True
    )
    stress, cell, h = atoms.get_stress(), atoms.cell.array.copy(), 1e-5
    for voigt, (i, j) in {0: (0, 0), 3: (1, 2)}.items():
        strain = np.zeros((3, 3))
        strain[i, j] += h / 2
        strain[j, i] += h / 2
        sides = []
        for sign in (1, -1):
            atoms.set_cell(cell @ (np.eye(3) + sign * strain), scale_atoms=True)
            sides.append(atoms.get_potential_energy())
        slope = (sides[0] - sides[1]) / (2 * h) / abs(np.linalg.det(cell))
        np.testing.assert_allclose(stress[voigt], slope, rtol=1e-5)
