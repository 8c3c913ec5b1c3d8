r"""Unit systems: factors from the units of LAMMPS to those of a simulation.

A simulation computes in units in which no conversion factor appears in Newton's
equation. Given those of length, mass and energy, the unit of time is
:math:`\sqrt{m \ell^2 / \varepsilon}`. Multiply a quantity in LAMMPS units by the factor
of its kind on the way in, and divide on the way out::

    unit = units.metal_unit_system()
    dt = 1e-3 * unit["time"]  # 1 fs, from ps
    kT = 300 * unit["temperature"]  # eV, from K

Source:
    Constants are those of CODATA 2014: P. J. Mohr, D. B. Newell, B. N. Taylor,
    Rev. Mod. Phys. 88, 035009 (2016), doi:10.1103/RevModPhys.88.035009. Units are those
    of the `units` command in the manual of LAMMPS.
"""

import math
from collections.abc import Mapping

constants_CONDATA_2014 = {  # noqa: N816 (the name scripts use)
    "_c": 299792458.0,  # speed of light, m / s
    "_mu0": 4.0e-7 * math.pi,  # permeability of vacuum, N / A^2
    "_Grav": 6.67408e-11,  # gravitational constant, m^3 / kg / s^2
    "_hplanck": 6.626070040e-34,  # Planck constant, J s
    "_e": 1.6021766208e-19,  # elementary charge, C
    "_me": 9.10938356e-31,  # electron mass, kg
    "_mp": 1.672621898e-27,  # proton mass, kg
    "_Nav": 6.022140857e23,  # Avogadro number, 1 / mol
    "_k": 1.38064852e-23,  # Boltzmann constant, J / K
    "_amu": 1.660539040e-27,  # atomic mass unit, kg
}

_C = constants_CONDATA_2014

FINE_STRUCTURE_CONSTANT = _C["_mu0"] * _C["_c"] * _C["_e"] ** 2 / (2 * _C["_hplanck"])
HARTREE_EV = 27.211386245988  # CODATA 2018
BOHR_ANGSTROM = (
    _C["_hplanck"]
    / (2 * math.pi * _C["_me"] * _C["_c"] * FINE_STRUCTURE_CONSTANT)
    / 1e-10
)
EV_TO_KJMOL = 1.602176634e-19 * 6.02214076e23 / 1e3  # exact in the SI of 2019

_ANGSTROM = 1e-10  # m
_CALORIE = 4.184  # J


def metal_unit_system(
    constants: Mapping[str, float] = constants_CONDATA_2014,
) -> dict[str, float]:
    """Factors from LAMMPS `metal` units to Å, atomic mass units, eV and e.

    Args:
        constants: Physical constants in SI units, keyed as `constants_CONDATA_2014`.

    Returns:
        A factor a kind of quantity, from mass in u, distance in Å, time in ps, energy
        in eV, velocity in Å/ps, force in eV/Å, torque in eV, temperature in K, pressure
        in bar, charge in e and electric field in V/Å. Temperatures become energies.
    """
    energy = constants["_e"]  # J
    return _factors(
        constants, energy=energy, time=1e-12, pressure=1e5, electric_field=1.0
    )


def real_unit_system(
    constants: Mapping[str, float] = constants_CONDATA_2014,
) -> dict[str, float]:
    """Factors from LAMMPS `real` units to Å, g/mol, kcal/mol and e.

    Args:
        constants: Physical constants in SI units, keyed as `constants_CONDATA_2014`.

    Returns:
        A factor a kind of quantity, from mass in g/mol, distance in Å, time in fs,
        energy in kcal/mol, velocity in Å/fs, force in kcal/mol/Å, torque in kcal/mol,
        temperature in K, pressure in atm, charge in e and electric field in V/Å.
        Temperatures become energies.
    """
    energy = 1e3 * _CALORIE / constants["_Nav"]  # J
    return _factors(
        constants,
        energy=energy,
        time=1e-15,
        pressure=101325.0,
        electric_field=constants["_e"] / energy,  # V/Å to kcal/mol/(e Å)
    )


def _factors(
    constants: Mapping[str, float],
    *,
    energy: float,
    time: float,
    pressure: float,
    electric_field: float,
) -> dict[str, float]:
    """Factors for Å, atomic mass units and e, from units given in SI."""
    time = time * math.sqrt(energy / (constants["_amu"] * _ANGSTROM**2))
    return {
        "mass": 1.0,
        "distance": 1.0,
        "time": time,
        "energy": 1.0,
        "velocity": 1 / time,
        "force": 1.0,
        "torque ": 1.0,  # the space is part of the key that scripts use
        "temperature": constants["_k"] / energy,
        "pressure": pressure * _ANGSTROM**3 / energy,
        "charge ": 1.0,
        "electric field": electric_field,
    }
