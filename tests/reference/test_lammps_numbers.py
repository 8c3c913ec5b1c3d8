"""Energies, forces and virials against LAMMPS, in double precision.

`make_lammps_reference.py` made the numbers; the scripts it ran are in the files.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, partition, smap, space

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent.parent / "examples" / "data"
TOLERANCE = 1e-9  # relative; LAMMPS prints 15 digits


def load(name):
    case = json.loads((HERE / f"lammps_{name}.json").read_text())
    arrays = ("position", "type", "force", "energy_per_atom")
    return {k: np.array(v) if k in arrays else v for k, v in case.items()}


def check(case, energy_fn, *args):
    """Compare with the reference; `energy_fn` gives one value an atom."""
    R = jnp.asarray(case["position"])
    identity = jnp.eye(3)

    @jax.jit
    def everything(R, strain):
        total = lambda R, F: jnp.sum(energy_fn(R, *args, perturbation=F))  # noqa: E731
        return energy_fn(R, *args), jax.grad(total, (0, 1))(R, strain)

    per_atom, (dE, virial) = everything(R, identity)
    scale = np.abs(case["force"]).max()
    np.testing.assert_allclose(jnp.sum(per_atom), case["energy"], rtol=TOLERANCE)
    size = np.abs(case["energy_per_atom"]).max()
    np.testing.assert_allclose(
        per_atom, case["energy_per_atom"], atol=TOLERANCE * size, rtol=0
    )
    np.testing.assert_allclose(-dE, case["force"], atol=TOLERANCE * scale, rtol=0)
    a, b = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    expected = np.array(case["virial_xx_yy_zz_xy_xz_yz"])
    np.testing.assert_allclose(
        -virial[a, b], expected, atol=TOLERANCE * np.abs(expected).max(), rtol=0
    )


@pytest.mark.parametrize("name", ["lj_cut", "lj_binary"])
def test_truncated_lennard_jones(name):
    case = load(name)
    displacement, _ = space.periodic(case["box"])
    parameters = {}
    if name == "lj_binary":
        parameters = {
            "species": case["type"] - 1,
            "sigma": np.array([[1.0, 0.8], [0.8, 0.88]]),
            "epsilon": np.array([[1.0, 1.5], [1.5, 0.5]]),
        }
    truncated = energy.lennard_jones_pair(
        displacement,
        r_cutoff=2.5,
        per_particle=True,
        cutoff_fn=energy.sharp_cutoff,
        **parameters,
    )
    check(case, truncated)
    by_hand = lambda dr, **p: jnp.where(dr < 2.5, energy.lennard_jones(dr, **p), 0)  # noqa: E731
    nbrs = partition.neighbor_list(displacement, case["box"], 2.5).allocate(
        jnp.asarray(case["position"])
    )
    listed = smap.pair_neighbor_list(
        by_hand, space.metric(displacement), reduce_axis=(1,), **parameters
    )
    check(case, listed, nbrs)


EAM = {"eam_cu": ("Cu_u3.eam", None), "eam_cuni": ("CuNi.eam.alloy", ("Ni", "Cu"))}


@pytest.mark.parametrize("name", EAM)
@pytest.mark.parametrize("format", [None, partition.Dense, partition.Sparse])
def test_embedded_atom(name, format):
    case, (file, elements) = load(name), EAM[name]
    displacement, _ = space.periodic(case["box"])
    potential = energy.eam_from_file(DATA / file, elements)
    species = None if elements is None else case["type"] - 1
    if format is None:
        check(case, energy.embedded_atom_pair(displacement, potential, species, True))
        return
    neighbor_fn, energy_fn = energy.embedded_atom_neighbor_list(
        displacement, case["box"], potential, species, per_particle=True, format=format
    )
    check(case, energy_fn, neighbor_fn.allocate(jnp.asarray(case["position"])))
