r"""An ASE calculator made of an energy function, for ASE's optimizers, phonons and MD.

With a strain :math:`\epsilon` that turns each displacement into
:math:`(1 + \epsilon)\,\mathbf{r}` (the ``perturbation=`` of displacement functions)
the stress is :math:`\sigma = V^{-1}\,\partial E/\partial\epsilon`, positive under
tension and in the order xx, yy, zz, yz, xz, xy, as ASE has it; ``quantity.stress`` is
positive under compression.

This module needs ase and is loaded on first use of ``io.Calculator``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import space

from ._extras import need
from .ase import from_ase
from .structure import is_upper_triangular, standard_rotation

need("ase", "`io.Calculator`")
from ase.calculators import calculator as ase_calculator  # noqa: E402 (see `need`)
from ase.calculators.calculator import (  # noqa: E402
    CalculationFailed,
    PropertyNotImplementedError,
    all_changes,
)
from ase.stress import full_3x3_to_voigt_6_stress  # noqa: E402

MAX_ATTEMPTS = 4


class Calculator(ase_calculator.Calculator):
    """ASE calculator of an energy function.

    Compiled once for each number of atoms, and again where a neighbor list needs more
    room; positions, cells and parameters may change freely.

    Args:
        energy_fn: ``energy(R, **kwargs)``, a scalar, or ``[n]`` for energies by atom.
            It gets ``box=`` (columns are lattice vectors), ``neighbor=`` where there is
            a list, and ``perturbation=`` for the stress, as far as it takes them. In
            ASE's units: eV and Angstrom. It has to be independent of the orientation of
            the system if the cell is not upper triangular and there is a list.
        neighbor_fn: What allocates neighbor lists (``NeighborListFns``), or None.
        fractional_coordinates: Whether `energy_fn` takes fractional positions.
        parameters: Further keywords of `energy_fn`: a dictionary, or a function of the
            ``ase.Atoms``, as in
            ``lambda atoms: {"species": io.from_ase(atoms).labels}``.
        extra_capacity: Extra room for neighbors.
        **options: Passed to ASE's ``Calculator``.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self,
        energy_fn: Callable,
        *,
        neighbor_fn: Any = None,
        fractional_coordinates: bool = False,
        parameters: Mapping[str, Any] | Callable[[Any], Mapping] | None = None,
        extra_capacity: int = 0,
        **options: Any,
    ):
        super().__init__(**options)
        self._energy_fn = energy_fn
        self._neighbor_fn = neighbor_fn
        self._fractional = fractional_coordinates
        self._keywords = {} if parameters is None else parameters
        self._extra_capacity = extra_capacity
        self._takes = _taker(energy_fn)
        self._neighbors: Any = None
        self._fixed_box: np.ndarray | None = None
        self._box_in_list = fractional_coordinates
        self._evaluate = jax.jit(self._traced, static_argnames="with_stress")
        self._with_stress = False

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Compute energy and forces, and the stress once it has been asked for.

        Raises:
            ValueError: If a position is not finite, if the cell changed although the
                energy or its list has a fixed box, or if the energy ignores strain.
            CalculationFailed: If the energy or a force is not finite.
            PropertyNotImplementedError: If ``energies`` are asked for and the energy
                is a scalar, or the stress without a cell.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # the line above puts them there
        structure = from_ase(self.atoms)
        position, box, rotation = structure.position, structure.box, np.eye(3)
        if box is not None and not box.any(axis=0).all():
            box = None  # a slab or a wire without a complete cell
        triangular = self._neighbor_fn is not None
        if box is not None and triangular and not is_upper_triangular(box):
            box, rotation = standard_rotation(box)
            position = position @ rotation.T
        if "stress" in properties:
            if box is None:
                raise PropertyNotImplementedError("the stress needs a complete cell.")
            self._with_stress = True
        with_stress = self._with_stress and box is not None
        if self._fractional:
            if box is None:
                raise ValueError(
                    "`fractional_coordinates=True` needs atoms with a complete cell."
                )
            position = np.linalg.solve(box, position.T).T
        keywords = self._keywords
        keywords = dict(keywords(self.atoms) if callable(keywords) else keywords)
        energies, forces, strain = self._run(
            jnp.asarray(position),
            None if box is None else jnp.asarray(box),
            keywords,
            with_stress,
        )
        energy = float(np.sum(energies))
        forces = np.asarray(forces, np.float64)
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            bad = ~np.isfinite(forces).all(axis=1)
            who = f", first of atom {int(np.argmax(bad))}" if bad.any() else ""
            raise CalculationFailed(
                f"the energy is {energy} and {int(bad.sum())} forces are not finite"
                f"{who}."
            )
        forces = forces @ rotation  # each is a row, so this is the way back
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if np.ndim(energies):
            self.results["energies"] = np.asarray(energies, np.float64)
        elif "energies" in properties:
            raise PropertyNotImplementedError(
                "`energies` needs an `energy_fn` that returns one energy an atom "
                "(`per_particle=True`)."
            )
        if with_stress:
            strain = np.asarray(strain, np.float64)
            if not strain.any() and np.abs(forces).max(initial=0.0) > 0:
                raise ValueError(
                    "`energy_fn` ignores `perturbation=`: its strain derivative is "
                    "exactly zero though forces are not. Pass keywords on to the "
                    "displacement function."
                )
            stress = rotation.T @ strain @ rotation / self.atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _run(self, position: Any, box: Any, keywords: dict, with_stress: bool) -> Any:
        if self._neighbors is None or len(self._reference()) != len(position):
            self._allocate(position, box, self._extra_capacity)
        extra = self._extra_capacity
        for _ in range(MAX_ATTEMPTS):
            self._refuse_changed_box(box)
            values, neighbors, overflow = self._evaluate(
                position, box, self._neighbors, keywords, with_stress=with_stress
            )
            self._remember_box(box)
            if not overflow:
                self._neighbors = neighbors
                return values
            extra += 4
            self._allocate(position, box, extra)
        raise CalculationFailed(
            f"the neighbor list still overflowed with `extra_capacity={extra}`."
        )

    def _reference(self) -> Any:
        leaves = jax.tree.leaves(getattr(self._neighbors, "reference_position", ()))
        return leaves[0] if leaves else ()

    def _allocate(self, position: Any, box: Any, extra: int) -> None:
        if self._neighbor_fn is None:
            return
        more = {"extra_capacity": extra} if extra else {}
        if self._box_in_list:
            more["box"] = box
        self._neighbors = self._neighbor_fn.allocate(position, **more)

    def _traced(
        self, position: Any, box: Any, neighbors: Any, keywords: dict, with_stress: bool
    ) -> Any:
        overflow = jnp.asarray(False)
        keywords = dict(keywords)
        if neighbors is not None:
            more = {"box": box} if self._box_in_list else {}
            neighbors = neighbors.update(position, **more)
            for name in ("did_buffer_overflow", "cell_size_too_small"):
                flag = getattr(neighbors, name, False)
                overflow |= jnp.any(jnp.asarray(flag) != 0)
            keywords["neighbor"] = neighbors
        if box is not None and self._takes("box"):
            keywords["box"] = box
        if with_stress and not self._takes("perturbation"):
            raise ValueError("`energy_fn` takes no `perturbation=`, so has no stress.")

        def total(position: Any, strain: Any) -> Any:
            more = {}
            if with_stress:
                more["perturbation"] = jnp.eye(3, dtype=position.dtype) + strain
            try:
                energies = self._energy_fn(position, **keywords, **more)
            except space.UnexpectedBoxException:
                # Noticed while tracing: this energy has its box built in.
                self._box_is_fixed = True
                fewer = {k: v for k, v in keywords.items() if k != "box"}
                energies = self._energy_fn(position, **fewer, **more)
            return jnp.sum(energies), energies

        strain = jnp.zeros((3, 3), position.dtype)
        gradient_fn = jax.grad(total, (0, 1) if with_stress else 0, has_aux=True)
        gradient, energies = gradient_fn(position, strain)
        slope, strained = gradient if with_stress else (gradient, strain)
        return (energies, -slope, strained), neighbors, overflow

    _box_is_fixed = False

    def _remember_box(self, box: Any) -> None:
        real_list = self._neighbor_fn is not None and not self._box_in_list
        if self._fixed_box is None and box is not None:
            if self._box_is_fixed or real_list:
                self._fixed_box = np.asarray(box)

    def _refuse_changed_box(self, box: Any) -> None:
        fixed = self._fixed_box
        if fixed is None or np.array_equal(fixed, np.asarray(box)):
            return
        raise ValueError(
            "the cell changed, but `energy_fn` or its neighbor list was made for a "
            f"fixed box; it was\n{fixed}\nand is\n{np.asarray(box)}\nUse "
            "`space.periodic_general` and `fractional_coordinates=True`."
        )


def _taker(fn: Callable) -> Callable[[str], bool]:
    """Tell which keywords a function takes."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return lambda name: True
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return lambda name: takes_all or name in parameters
