import jax
import numpy as np
import pytest

from jax_md import io

ase = pytest.importorskip("ase")
ase_build = pytest.importorskip("ase.build")

# Of ase 3.29 with numpy 2.5, in every empty `Atoms`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting the shape on a NumPy array:DeprecationWarning"
)

SKEWED = np.array([[4.0, 0.5, -0.3], [0.2, 5.0, 0.7], [-0.6, 0.4, 6.0]])


def water_like(pbc=(True, True, False)):
    rng = np.random.default_rng(0)
    atoms = ase.Atoms(
        "H2OCl", positions=rng.uniform(0, 5, (4, 3)), cell=SKEWED, pbc=pbc
    )
    atoms.set_momenta(rng.normal(size=(4, 3)))
    atoms.set_masses([1.0, 2.0, 16.0, 35.0])
    atoms.set_initial_charges([0.4, 0.4, -0.8, 0.0])
    return atoms


def test_box_columns_are_lattice_vectors():
    structure = io.from_ase(water_like())
    np.testing.assert_array_equal(structure.box[:, 0], SKEWED[0])
    scaled = water_like().get_scaled_positions(wrap=False)
    np.testing.assert_allclose(scaled @ structure.box.T, structure.position, atol=1e-14)


def test_round_trip_is_exact():
    atoms = water_like()
    back = io.to_ase(io.from_ase(atoms))
    np.testing.assert_array_equal(back.positions, atoms.positions)
    np.testing.assert_array_equal(back.cell, atoms.cell)
    np.testing.assert_array_equal(back.pbc, atoms.pbc)
    np.testing.assert_array_equal(back.numbers, atoms.numbers)
    np.testing.assert_array_equal(back.get_momenta(), atoms.get_momenta())
    np.testing.assert_array_equal(back.get_masses(), atoms.get_masses())
    np.testing.assert_array_equal(
        back.get_initial_charges(), atoms.get_initial_charges()
    )


def test_structure_is_a_pytree_with_labels():
    structure = io.from_ase(water_like(), dtype=np.float32)
    assert structure.elements == (1, 8, 17)
    np.testing.assert_array_equal(structure.labels, [0, 0, 1, 2])
    doubled = jax.tree.map(lambda x: 2 * x, structure)
    assert doubled.position.dtype == np.float32
    assert doubled.symbols == ("H", "H", "O", "Cl")
    np.testing.assert_allclose(
        structure.velocity, water_like().get_velocities(), rtol=1e-6
    )


def test_absent_data_is_none():
    structure = io.from_ase(ase.Atoms("He2", positions=[[0, 0, 0], [1, 0, 0]]))
    assert structure.box is None
    assert structure.momentum is None
    assert structure.charge is None


def test_two_dimensions_and_vector_box():
    flat = io.Structure(
        position=np.ones((3, 2)), box=np.array([4.0, 5.0]), pbc=(True, True)
    )
    atoms = io.to_ase(flat)
    np.testing.assert_array_equal(np.diag(atoms.cell), [4, 5, 0])
    np.testing.assert_array_equal(atoms.pbc, [True, True, False])
    assert atoms.get_chemical_symbols() == ["X"] * 3


@pytest.mark.parametrize("cell", [SKEWED, SKEWED[[1, 0, 2]], np.diag([3.0, 4.0, 5.0])])
def test_standard_form_keeps_the_geometry(cell):
    atoms = water_like(pbc=True)
    atoms.set_cell(cell)
    structure = io.from_ase(atoms)
    turned = io.standard_form(structure)
    assert io.is_upper_triangular(turned.box)
    assert (np.diag(turned.box)[:2] > 0).all()
    np.testing.assert_allclose(
        np.linalg.det(turned.box), np.linalg.det(structure.box), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.linalg.solve(turned.box, turned.position.T),
        np.linalg.solve(structure.box, structure.position.T),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        io.to_ase(turned).get_all_distances(mic=True),
        atoms.get_all_distances(mic=True),
        atol=1e-10,
    )
    np.testing.assert_allclose(
        np.sum(turned.momentum * turned.position, 1),
        np.sum(structure.momentum * structure.position, 1),
        atol=1e-12,
    )
    upper, rotation = io.standard_rotation(structure.box)
    np.testing.assert_allclose(rotation @ structure.box, upper, atol=1e-12)
    np.testing.assert_allclose(rotation.T @ turned.box, structure.box, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


def test_standard_form_fills_in_a_missing_vector():
    slab = ase_build.fcc111("Al", (2, 2, 3))
    slab.rotate(40, (1, 2, 3), rotate_cell=True)
    structure = io.standard_form(io.from_ase(slab))
    assert structure.box[2, 2] > np.ptp(structure.position[:, 2])
    assert io.is_upper_triangular(structure.box)
    with pytest.raises(ValueError, match="axis 2 is periodic"):
        io.standard_form(io.from_ase(slab).set(pbc=(True, True, True)))
    with pytest.raises(ValueError, match="no box"):
        io.standard_form(io.Structure(position=np.zeros((1, 3))))
    with pytest.raises(ValueError, match="independent"):
        io.standard_rotation(np.ones((3, 3)))


def test_read_and_write(tmp_path):
    structure = io.from_ase(water_like())
    io.write(tmp_path / "a.extxyz", [structure, structure.set(mass=None)])
    last = io.read(tmp_path / "a.extxyz")
    np.testing.assert_allclose(last.position, structure.position, atol=1e-8)
    np.testing.assert_allclose(last.box, structure.box, atol=1e-8)
    both = io.read(tmp_path / "a.extxyz", ":")
    assert [s.symbols for s in both] == [structure.symbols] * 2


def test_errors_of_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.xyz"):
        io.read(tmp_path / "nothing.xyz")
    whole = tmp_path / "whole.extxyz"
    io.write(whole, io.from_ase(water_like()))
    with pytest.raises(ValueError, match="`format` must be a format of ASE"):
        io.read(whole, format="no-such-format")
    with pytest.raises(IndexError, match="1 frames"):
        io.read(whole, index=3)
    unknown = tmp_path / "unknown.zzz"
    unknown.write_text("what is this\n")
    with pytest.raises(ValueError, match="unknown to ASE"):
        io.read(unknown)
    cut = tmp_path / "cut.extxyz"
    cut.write_text("\n".join(whole.read_text().splitlines()[:4]) + "\n")
    with pytest.raises(ValueError, match="truncated"):
        io.read(cut)
    empty = tmp_path / "empty.xyz"
    empty.write_text("")
    with pytest.raises(ValueError, match="empty"):
        io.read(empty)
    lines = whole.read_text().splitlines()
    fields = lines[3].split()
    lines[3] = " ".join([fields[0], "nan", *fields[2:]])
    bad = tmp_path / "bad.extxyz"
    bad.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="particle 1"):
        io.read(bad)


def test_errors_of_write(tmp_path):
    structure = io.from_ase(water_like())
    gone = structure.position + np.array([[0], [0], [np.inf], [0]])
    with pytest.raises(ValueError, match="particle 2"):
        io.write(tmp_path / "x.xyz", structure.set(position=gone))
    with pytest.raises(ValueError, match="no format is known"):
        io.write(tmp_path / "x.zzz", structure)
    with pytest.raises(FileNotFoundError, match="folder"):
        io.write(tmp_path / "no" / "x.xyz", structure)
    with pytest.raises(ValueError, match=r"d <= 3"):
        io.to_ase(io.Structure(position=np.zeros((2, 4))))


def test_missing_ase_names_the_extra(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("jax_md.io._extras.import_module", refuse)
    with pytest.raises(ImportError, match=r"jax-md\[io\]"):
        io.read("x.xyz")
