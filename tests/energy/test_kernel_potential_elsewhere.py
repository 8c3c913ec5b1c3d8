"""A kernel potential where any energy can stand: runs, minima, gradients, ASE."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import (
    adjoint,
    energy,
    io,
    minimize,
    nn,
    partition,
    quantity,
    simulate,
    space,
)
from jax_md.energy import kernel_potential as kp

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Setting the shape on a NumPy array:DeprecationWarning:ase.*"
    ),
]
BOX, N, CUTOFF, KT = 7.5, 4, 3.2, 2e-3
displacement, shift = space.periodic(BOX)
NEIGHBOR = partition.neighbor_list(
    displacement, BOX, CUTOFF, 0.5, capacity_multiplier=2
)


def descriptors(neighbor):
    make = nn.behler_parrinello
    form = (
        make.symmetry_functions_neighbor_list if neighbor else make.symmetry_functions
    )
    return form(
        displacement,
        radial_etas=[0.1, 0.6],
        angular_etas=[0.1],
        lambdas=[1.0],
        zetas=[1.0],
        cutoff_distance=CUTOFF,
        cutoff_fn=nn.quintic_cutoff,
    )


@functools.cache
def potential():
    """A sparse fit to a tetrahedron of Morse that was shaken, and a frame of it."""
    morse = energy.morse_pair(
        displacement, sigma=1.9, epsilon=0.1, alpha=1.5, r_onset=2.2, r_cutoff=3.0
    )
    label = jax.jit(jax.value_and_grad(morse))
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    spots = 2.0 + 1.9 / np.sqrt(2) * corners
    rng = np.random.default_rng(0)
    frames = [jnp.asarray(spots + rng.normal(0, 0.12, (N, 3))) for _ in range(16)]
    labels = [label(R) for R in frames]
    data = [
        kp.observation(R, energy=E, force=-g)
        for R, (E, g) in zip(frames, labels, strict=True)
    ]
    plain = kp.fit(
        kp.rbf(1.5), descriptors(False), data, noise=(1e-4, 1e-3), environments=24
    )
    return plain.set(descriptor_fn=descriptors(True), training=None), frames[0]


def energy_fn():
    return kp.energy_fn(potential()[0])


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "nose_hoover", "brownian"])
def test_every_ensemble_runs_it_over_a_list(ensemble):
    E_fn, R = energy_fn(), potential()[1]
    make = {
        "nve": functools.partial(simulate.nve, dt=2e-2),
        "langevin": functools.partial(simulate.nvt_langevin, dt=2e-2, kT=KT),
        "nose_hoover": functools.partial(simulate.nvt_nose_hoover, dt=2e-2, kT=KT),
        "brownian": functools.partial(simulate.brownian, dt=1e-2, kT=KT, gamma=1.0),
    }[ensemble]
    simulator = make(E_fn, shift)
    neighbors = NEIGHBOR.allocate(R)
    start = {} if ensemble == "brownian" else {"kT": KT}
    state = simulator.init(jax.random.key(0), R, neighbor=neighbors, **start)

    def conserved(state, neighbor, kT=KT):
        if ensemble == "nve":
            kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
            return E_fn(state.position, neighbor) + kinetic
        if ensemble == "nose_hoover":
            return simulate.nvt_nose_hoover_invariant(
                E_fn, state, kT=KT, neighbor=neighbor
            )
        return 0.0

    done = simulate.run(
        simulator, state, 200, neighbor_fn=NEIGHBOR, every=20, conserved=conserved
    )
    assert float(jnp.max(jnp.abs(done.state.position - R))) > 0.02
    # The same run over all pairs, random numbers included, ends at the same place.
    plain = make(
        kp.energy_fn(potential()[0].set(descriptor_fn=descriptors(False))), shift
    )
    state = plain.init(jax.random.key(0), R, **start)
    end = simulate.run(plain, state, 200).state
    np.testing.assert_allclose(done.state.position, end.position, rtol=0, atol=1e-7)
    H = np.asarray(done.records["conserved"])
    assert np.ptp(H) < 0.01 * N * KT


@pytest.mark.parametrize(
    "minimizer", [minimize.fire_descent, minimize.lbfgs], ids=["fire", "lbfgs"]
)
def test_minimizers_find_the_same_minimum(minimizer):
    E_fn, R = energy_fn(), potential()[1]
    neighbor = NEIGHBOR.allocate(R)
    quench = minimize.until_converged(minimizer, shift, tolerance=1e-7)
    end = jax.jit(lambda R: quench(lambda R: E_fn(R, neighbor), R))(R)
    assert float(jnp.max(jnp.abs(jax.grad(E_fn)(end, neighbor)))) < 1e-6
    assert E_fn(end, neighbor) < E_fn(R, neighbor) - KT


@pytest.mark.parametrize(
    "method",
    [adjoint.Backprop(), adjoint.Checkpointed(slots=4), adjoint.Reversible()],
    ids=lambda method: type(method).__name__,
)
def test_gradients_through_a_run_in_weights_and_positions(method):
    """Of the weights of the kernels and the start, against central differences."""
    fitted, R = potential()
    simulator = simulate.nve_reversible(kp.energy_fn(fitted), BOX, dt=2e-2)
    neighbor = NEIGHBOR.allocate(R)
    step = simulator.for_adjoint(
        lambda beta: {"potential": fitted.set(beta=beta)}, neighbors=neighbor
    )

    def loss(beta, R):
        state = simulator.init(jax.random.key(0), R, kT=KT, neighbor=neighbor)
        end, _ = adjoint.rollout(step, beta, state, 40, method)
        return jnp.sum(jnp.cos(2 * jnp.pi * end.position / BOX) * jnp.arange(3.0))

    args = (fitted.beta, R)
    slopes = jax.jit(jax.grad(loss, (0, 1)))(*args)
    compiled = jax.jit(loss)
    for which, (at, slope) in enumerate(zip(args, slopes, strict=True)):
        along = slope / jnp.linalg.norm(slope)
        h = 1e-5 * float(jnp.linalg.norm(at))
        up, down = (
            compiled(
                *(x + s * h * along if i == which else x for i, x in enumerate(args))
            )
            for s in (1, -1)
        )
        expected = float(up - down) / (2 * h)
        assert float(jnp.sum(slope * along)) == pytest.approx(expected, rel=1e-2)


def test_derivative_of_a_minimum_in_the_weights():
    fitted, R = potential()
    E_fn, neighbor = kp.energy_fn(fitted), NEIGHBOR.allocate(R)
    quench = minimize.until_converged(minimize.fire_descent, shift, tolerance=1e-10)

    def spread(scale):
        beta = fitted.beta * (1 + (scale - 1) * jnp.linspace(0, 1, len(fitted.beta)))

        def energy_of(beta, R):
            return E_fn(R, neighbor, potential=fitted.set(beta=beta))

        found = adjoint.minimum(energy_of, beta, R, quench, tolerance=1e-8)
        return jnp.sum(displacement(found.position[0], found.position[3]) ** 2)

    slope, h = jax.jit(jax.grad(spread))(1.0), 1e-6
    spread = jax.jit(spread)
    expected = float(spread(1 + h) - spread(1 - h)) / (2 * h)
    assert abs(expected) > 1e-3
    assert float(slope) == pytest.approx(expected, rel=1e-4)


def test_ase_calculator():
    ase = pytest.importorskip("ase")
    R = np.asarray(potential()[1])
    atoms = ase.Atoms("Ar4", positions=R, cell=[BOX] * 3, pbc=True)
    atoms.calc = io.Calculator(energy_fn(), neighbor_fn=NEIGHBOR)
    h, force, stress = 1e-4, atoms.get_forces(), atoms.get_stress(voigt=False)
    ends = []
    for sign in (1, -1):
        atoms.positions[3, 1] = R[3, 1] + sign * h
        ends.append(atoms.get_potential_energy())
    assert force[3, 1] == pytest.approx(-(ends[0] - ends[1]) / (2 * h), rel=1e-5)
    assert np.all(np.isfinite(stress)) and np.abs(stress).max() > 1e-4
