"""Unit systems against numbers that stand outside of this project."""

import math

import jax.numpy as jnp
import pytest

from jax_md import units

SYSTEMS = {"metal": units.metal_unit_system, "real": units.real_unit_system}
KEYS = [
    "mass",
    "distance",
    "time",
    "energy",
    "velocity",
    "force",
    "torque ",
    "temperature",
    "pressure",
    "charge ",
    "electric field",
]


@pytest.mark.parametrize("system", SYSTEMS)
def test_keys(system):
    assert list(SYSTEMS[system]()) == KEYS


# Source: LAMMPS, src/update.cpp, `set_units`: boltz, 1 / nktv2p, qe2f, and ftm2v, which
# is 1 / time^2. Its constants are of several vintages, so a few parts in 1e6 differ.
@pytest.mark.parametrize(
    ("system", "kind", "expected", "rtol"),
    [
        ("metal", "temperature", 8.617343e-5, 3e-6),
        ("metal", "pressure", 1 / 1.6021765e6, 1e-6),
        ("metal", "time", (1.0364269e-4) ** -0.5, 1e-6),
        ("metal", "electric field", 1.0, 0),
        ("real", "temperature", 0.0019872067, 3e-6),
        ("real", "pressure", 1 / 68568.415, 1e-6),
        ("real", "time", (48.88821291**2) ** -0.5, 1e-9),
        ("real", "electric field", 23.060549, 1e-6),
    ],
)
def test_factors(system, kind, expected, rtol):
    assert SYSTEMS[system]()[kind] == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("system", SYSTEMS)
def test_units_are_consistent(system):
    unit = SYSTEMS[system]()
    assert unit["velocity"] == pytest.approx(unit["distance"] / unit["time"])
    for kind in ("mass", "distance", "energy", "force", "torque ", "charge "):
        assert unit[kind] == 1


def test_an_oscillator_of_known_frequency():
    # About that of carbon monoxide: stiffness in N/m, reduced mass in u.
    period = 2 * math.pi * math.sqrt(6.8562 * 1.66053904e-27 / 1855.0)
    for system, quantum, fs in (("metal", 1.6021766208e-19, 1e-3), ("real", None, 1.0)):
        unit = SYSTEMS[system]()
        quantum = quantum or 4184 / 6.022140857e23
        stiffness = 1855.0 * 1e-20 / quantum  # energy / Å^2
        ours = 2 * math.pi * math.sqrt(6.8562 / stiffness)
        assert ours / (fs * unit["time"]) == pytest.approx(period * 1e15, rel=1e-9)


def test_metal_and_real_agree_on_energies():
    kcal_in_ev = (
        units.metal_unit_system()["temperature"]
        / units.real_unit_system()["temperature"]
    )
    assert kcal_in_ev * 23.060548 == pytest.approx(1, rel=1e-7)
    assert 4.184 / units.EV_TO_KJMOL == pytest.approx(kcal_in_ev, rel=1e-7)


def test_constants():
    assert 1 / units.FINE_STRUCTURE_CONSTANT == pytest.approx(137.035999, rel=1e-8)
    assert units.BOHR_ANGSTROM == pytest.approx(0.52917721067, rel=1e-9)
    assert units.HARTREE_EV == 27.211386245988
    assert units.EV_TO_KJMOL == pytest.approx(96.48533212, rel=1e-9)
    assert set(units.constants_CONDATA_2014) == {
        *("_c", "_mu0", "_Grav", "_hplanck", "_e", "_me", "_mp", "_Nav", "_k", "_amu")
    }


def test_constants_can_be_replaced():
    hot = {**units.constants_CONDATA_2014, "_k": 2 * 1.38064852e-23}
    for system in SYSTEMS.values():
        ratio = system(hot)["temperature"] / system()["temperature"]
        assert ratio == pytest.approx(2)


def test_factors_leave_the_dtype_alone(dtype):
    for system in SYSTEMS.values():
        for factor in system().values():
            assert (jnp.ones(2, dtype) * factor).dtype == dtype
