"""Files of embedded-atom potentials."""

import pathlib

import numpy as np
import pytest

from jax_md import io
from jax_md.io import lammps

DATA = pathlib.Path(__file__).parents[2] / "examples" / "data"


def test_funcfl():
    tables = io.read_eam(DATA / "Cu_u3.eam")
    assert tables.elements == ("Cu",) and tables.lattice == ("FCC",)
    assert tables.embedding.shape == (1, 500)
    assert tables.density.shape == tables.pair.shape == (1, 1, 500)
    assert (tables.mass[0], tables.lattice_constant[0]) == (63.55, 3.615)
    np.testing.assert_allclose((tables.d_r, tables.cutoff), (0.01, 4.95))
    assert "Foiles" in tables.comment
    # The second number of the file, and the third from its end.
    np.testing.assert_allclose(tables.embedding[0, 1], -3.156163690342435e-01)
    words = (DATA / "Cu_u3.eam").read_text().split()
    assert tables.density[0, 0, -3] == float(words[-3])
    # Z(0) = 10 effective charges, in Hartree * Bohr, as eV * Angstrom.
    np.testing.assert_allclose(tables.pair[0, 0, 0], 27.2 * 0.529 * 10**2)


def test_setfl():
    with (DATA / "CuNi.eam.alloy").open() as file:
        tables = lammps.read_eam(file)
    assert tables.elements == ("Ni", "Cu") and list(tables.atomic_number) == [28, 29]
    assert tables.pair.shape == (2, 2, 500)
    np.testing.assert_array_equal(tables.pair[0, 1], tables.pair[1, 0])
    # One density a source, the same for whatever atom it reaches.
    np.testing.assert_array_equal(tables.density[:, 0], tables.density[:, 1])
    words = (DATA / "CuNi.eam.alloy").read_text().split()
    assert tables.pair[1, 1, -1] == float(words[-1])
    assert tables.pair[0, 0, 0] == float(words[-1500])
    assert tables.pair[1, 0, 0] == float(words[-1000])


def test_densities_for_each_pair_of_elements(tmp_path):
    """The variant for Finnis-Sinclair potentials, told by its length."""
    n = 6
    values = iter(range(1000))
    lines = ["a", "b", "c", "2 Fe P", f"{n} 0.5D0 {n} 0.25 1.25"]
    for number in (26, 15):
        lines.append(f"{number} 1.0 2.0 bcc")
        lines += [str(next(values)) for _ in range(n + 2 * n)]
    lines += [str(next(values)) for _ in range(3 * n)]
    path = tmp_path / "x.eam.fs"
    path.write_text("\n".join(lines))
    tables = lammps.read_eam(path)
    assert tables.d_rho == 0.5
    np.testing.assert_array_equal(tables.density[:, :, 0], [[n, 2 * n], [4 * n, 5 * n]])
    np.testing.assert_array_equal(tables.embedding[:, 0], [0, 3 * n])
    np.testing.assert_array_equal(
        tables.pair[:, :, 0], [[6 * n, 7 * n], [7 * n, 8 * n]]
    )


@pytest.mark.parametrize("name", ["Cu_u3.eam", "CuNi.eam.alloy"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(name, kept, tmp_path):
    text = (DATA / name).read_text()
    path = tmp_path / name
    path.write_text(text[: int(len(text) * kept)].rsplit(None, 1)[0])
    with pytest.raises(ValueError, match="truncated") as error:
        lammps.read_eam(path)
    assert name in str(error.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x"
    for text in ("", "a\nb\nc\n", "a\nb\nc\n2 Fe\n1 2 3\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no embedded-atom potential"):
            lammps.read_eam(path)
    path.write_text("a\nb\nc\n1 Fe\n1 2 3\n")
    with pytest.raises(ValueError, match="sizes of the tables"):
        lammps.read_eam(path)
    text = (DATA / "Cu_u3.eam").read_text()
    path.write_text(text[:2000] + " oops " + text[2000:])
    with pytest.raises(ValueError, match="numbers only.*oops"):
        lammps.read_eam(path)
