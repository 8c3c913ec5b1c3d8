import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import io, space

ase = pytest.importorskip("ase")
ase_build = pytest.importorskip("ase.build")
ase_lj = pytest.importorskip("ase.calculators.lj")

# Of ase 3.29 with numpy 2.5, in every empty `Atoms`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting the shape on a NumPy array:DeprecationWarning"
)

SIGMA, EPSILON, CUTOFF = 2.3, 0.01, 4.5
TIGHT = 1e-10  # of float64 sums over some dozens of pairs


def lennard_jones(displacement_fn, per_particle=False, log=None):
    """ASE's shifted Lennard-Jones, within a cutoff."""

    def u(r):
        s = (SIGMA / r) ** 6
        return 4 * EPSILON * (s**2 - s)

    def energy(R, neighbor=None, epsilon=1.0, **kwargs):
        if log is not None:
            log.append(R.shape)
        d = space.map_product(displacement_fn)(R, R, **kwargs)
        mask = ~jnp.eye(len(R), dtype=bool)
        if neighbor is not None:
            mask = mask & neighbor.mask
        r = jnp.sqrt(jnp.where(mask, jnp.sum(d**2, -1), 1.0))
        inside = mask & (r < CUTOFF)
        e = jnp.where(inside, u(r) - u(CUTOFF), 0.0) * epsilon
        return jnp.sum(e, 1) / 2 if per_particle else jnp.sum(e) / 2

    return energy


def crystal(skewed=False):
    # Large enough for minimum images within the cutoff.
    atoms = ase_build.bulk("Cu", "fcc", a=3.6, cubic=True).repeat(3)
    if skewed:
        atoms.set_cell(
            atoms.cell.array @ [[1, 0.06, 0.02], [0, 1, 0.05], [0.03, 0, 1]],
            scale_atoms=True,
        )
    atoms.rattle(0.1, seed=1)
    return atoms


def reference(atoms):
    atoms = atoms.copy()
    atoms.calc = ase_lj.LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    return atoms


def fractional(**options):
    displacement, _ = space.periodic_general(1.0, fractional_coordinates=True)
    return lennard_jones(displacement, **options)


def compare(atoms):
    expected = reference(atoms)
    np.testing.assert_allclose(
        atoms.get_potential_energy(), expected.get_potential_energy(), rtol=TIGHT
    )
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=TIGHT)
    np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), atol=TIGHT)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("is_fractional", [False, True])
def test_agrees_with_ase(skewed, is_fractional):
    atoms = crystal(skewed)
    box = io.from_ase(atoms).box
    displacement, _ = space.periodic_general(box, fractional_coordinates=is_fractional)
    atoms.calc = io.Calculator(
        lennard_jones(displacement), fractional_coordinates=is_fractional
    )
    assert isinstance(atoms.calc, ase.calculators.calculator.Calculator)
    assert isinstance(atoms.calc, io.Calculator)
    compare(atoms)
    assert atoms.get_stress()[0] != 0


def test_compiles_once():
    traces = []
    atoms = crystal()
    atoms.calc = io.Calculator(fractional(log=traces), fractional_coordinates=True)
    atoms.get_stress()
    count = len(traces)
    for seed in range(3):
        atoms.rattle(0.05, seed=seed)
        atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        atoms.get_forces()
        atoms.get_stress()
    assert len(traces) == count
    compare(atoms)


def test_energies_by_atom():
    atoms = crystal()
    atoms.calc = io.Calculator(
        fractional(per_particle=True), fractional_coordinates=True
    )
    np.testing.assert_allclose(
        atoms.get_potential_energies(),
        reference(atoms).get_potential_energies(),
        rtol=1e-9,
    )
    atoms.calc = io.Calculator(fractional(), fractional_coordinates=True)
    with pytest.raises(NotImplementedError, match="per_particle"):
        atoms.get_potential_energies()


def test_parameters():
    atoms = crystal()
    plain = io.Calculator(fractional(), fractional_coordinates=True)
    single = plain.get_potential_energy(atoms)
    for parameters in ({"epsilon": 3.0}, lambda atoms: {"epsilon": len(atoms) / 36}):
        calc = io.Calculator(
            fractional(), fractional_coordinates=True, parameters=parameters
        )
        np.testing.assert_allclose(calc.get_potential_energy(atoms), 3 * single)


def test_optimizes_a_cell():
    optimize = pytest.importorskip("ase.optimize")
    filters = pytest.importorskip("ase.filters")
    atoms = crystal(skewed=True)
    atoms.calc = io.Calculator(fractional(), fractional_coordinates=True)
    before = atoms.get_potential_energy()
    optimize.FIRE(filters.UnitCellFilter(atoms), logfile=None).run(0.02, steps=6)
    assert atoms.get_potential_energy() < before - 0.1
    compare(atoms)


class MaskList:
    """A list that holds a mask, with room for a number of pairs."""

    def __init__(self, mask, pairs, reference_position, capacity, box_seen):
        self.mask, self.pairs, self.capacity = mask, pairs, capacity
        self.reference_position, self.box_seen = reference_position, box_seen

    @property
    def did_buffer_overflow(self):
        return self.pairs > self.capacity

    def update(self, position, box=None):
        return mask_list(position, self.capacity, box)


jax.tree_util.register_pytree_node(
    MaskList,
    lambda x: ((x.mask, x.pairs, x.reference_position), (x.capacity, x.box_seen)),
    lambda aux, children: MaskList(*children, *aux),
)


def mask_list(position, capacity, box):
    displacement, _ = space.periodic_general(1.0, fractional_coordinates=True)
    d = space.map_product(displacement)(position, position, box=box)
    mask = jnp.sum(d**2, -1) < CUTOFF**2
    pairs = jnp.max(jnp.sum(mask, 1))
    return MaskList(mask, pairs, position, capacity, box is not None)


class MaskListFns:
    capacities = []

    def allocate(self, position, extra_capacity=0, box=None):
        assert io.is_upper_triangular(box)
        capacity = int(mask_list(position, 0, box).pairs) + extra_capacity
        self.capacities = [*self.capacities, capacity]
        return mask_list(position, capacity, box)


def test_with_a_list_that_overflows():
    neighbor_fn = MaskListFns()
    atoms = crystal(skewed=True)  # not upper triangular: it is turned
    assert not io.is_upper_triangular(io.from_ase(atoms).box)
    atoms.calc = io.Calculator(
        fractional(), neighbor_fn=neighbor_fn, fractional_coordinates=True
    )
    compare(atoms)
    assert len(neighbor_fn.capacities) == 1
    atoms.set_cell(atoms.cell.array * 0.9, scale_atoms=True)
    compare(atoms)
    assert len(neighbor_fn.capacities) == 2
    del atoms[0]  # another number of atoms: another list
    compare(atoms)
    assert len(neighbor_fn.capacities) == 3


def test_fixed_box_that_changes_is_refused():
    atoms = crystal()
    displacement, _ = space.periodic(np.diag(atoms.cell.array))
    atoms.calc = io.Calculator(lennard_jones(displacement))
    compare(atoms)
    atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
    with pytest.raises(ValueError, match="the cell changed"):
        atoms.get_potential_energy()


def test_molecule_without_a_cell():
    displacement, _ = space.free()
    atoms = ase.Atoms("Ar3", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.6, 0.3]])
    atoms.calc = io.Calculator(lennard_jones(displacement))
    expected = reference(atoms)
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=TIGHT)
    with pytest.raises(NotImplementedError, match="cell"):
        atoms.get_stress()


def test_energy_that_takes_few_keywords():
    atoms = ase.Atoms("Ar2", positions=[[0, 0, 0], [1, 0, 0]], cell=[9, 9, 9])
    atoms.calc = io.Calculator(lambda R: jnp.sum((R[0] - R[1]) ** 2))
    np.testing.assert_allclose(atoms.get_forces(), [[2, 0, 0], [-2, 0, 0]])
    with pytest.raises(ValueError, match="takes no `perturbation"):
        atoms.get_stress()
    atoms.calc = io.Calculator(lambda R, **kw: jnp.sum((R[0] - R[1]) ** 2))
    with pytest.raises(ValueError, match="ignores `perturbation"):
        atoms.get_stress()


def test_energy_that_is_not_finite():
    atoms = ase.Atoms("Ar2", positions=[[0, 0, 0], [1, 0, 0]])
    atoms.calc = io.Calculator(lambda R: jnp.sum(1 / R[0]))
    failed = ase.calculators.calculator.CalculationFailed
    with pytest.raises(failed, match="atom 0"):
        atoms.get_forces()


def test_import_loads_no_extra():
    code = (
        "import sys, jax_md.io, jax_md.simulate.run;"
        "print([m for m in ('ase', 'h5py', 'tqdm', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ".", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ase" not in out and "h5py" not in out and "tqdm" not in out
