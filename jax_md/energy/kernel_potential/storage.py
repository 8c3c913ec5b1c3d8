"""Fitted potentials on disk, as one file of arrays (``.npz``)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .fit import KernelPotential
from .iterative import Preconditioner
from .kernels import AtomKernel
from .matrix_free import System
from .observations import Group, Noise, Training

VERSION = 1
PROBES = 5  # atoms whose kernels are kept, to recognize the kernel by


def save(
    path: str | Path, potential: KernelPotential, with_training: bool = True
) -> None:
    """Write a potential.

    Functions are not written: `load` takes kernel and descriptors, and tells whether
    the kernel is the same.

    Args:
        path: File to write; ``.npz`` is added where it is missing.
        potential: What `fit` returned.
        with_training: Whether to write the data as well, which `update` needs, and the
            variance of a full fit.
    """
    arrays = {
        name: value
        for name in ("x", "z", "beta", "u", "alpha", "lower", "mean", "scale")
        if (value := getattr(potential, name)) is not None
    }
    arrays["reference"] = potential.reference
    arrays["probe"] = _probe(potential.kernel, potential.x, potential.z)
    if potential.upper is not None:
        arrays["upper"], arrays["upper_target"] = potential.upper
    coupling = potential.kernel.coupling
    if coupling is not None:
        arrays["coupling"] = coupling
    facts: dict[str, Any] = {
        "version": VERSION,
        "solver": potential.solver,
        "types": list(potential.kernel.types),
        "noise": [float(v) for v in potential.noise],
        "jitter": float(potential.jitter),
        "report": potential.report,
    }
    training = potential.training
    if training is not None and with_training:
        arrays["y"] = training.y
        facts["is_independent"] = training.is_independent
        if potential.system is not None:
            shift, precondition = potential.system
            arrays["shift"] = shift
            arrays["root"], arrays["factor"] = precondition
        facts["groups"] = [[g.has_energy, g.kinds] for g in training.groups]
        for i, group in enumerate(training.groups):
            arrays[f"x_{i}"], arrays[f"z_{i}"] = group.x, group.z
            if group.jacobian is not None:
                arrays[f"jacobian_{i}"] = group.jacobian
    content: dict[str, Any] = {k: np.asarray(v) for k, v in arrays.items()}
    np.savez(path, facts=np.array(json.dumps(facts)), **content)


def load(
    path: str | Path,
    kernel: Callable | Mapping[int, Callable],
    descriptor_fn: Callable[..., Array],
) -> KernelPotential:
    """Read a potential.

    Args:
        path: A file that `save` wrote.
        kernel: The kernel of the fit.
        descriptor_fn: The descriptors of the fit.

    Raises:
        ValueError: If the file is none of ours, or the kernel another one.
    """
    path = Path(path)
    if not path.exists() and path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")
    with np.load(path) as content:
        arrays = {
            name: jnp.asarray(content[name]) for name in content if name != "facts"
        }
        facts = json.loads(str(content["facts"])) if "facts" in content else {}
    if facts.get("version") != VERSION:
        raise ValueError(
            f"`{path}` is no potential of this version ({VERSION}); found version "
            f"{facts.get('version')}. Save it anew."
        )
    atoms = AtomKernel(kernel, tuple(facts["types"]), arrays.pop("coupling", None))
    found, known = _probe(atoms, arrays["x"], arrays["z"]), arrays.pop("probe")
    worst = float(jnp.max(jnp.abs(found - known)) / jnp.max(jnp.abs(known)))
    if not worst < 1e-4:
        raise ValueError(
            f"`kernel` is not the one that `{path}` was fitted with: between its "
            f"environments it differs by {worst:.0e} of the largest value. Pass the "
            "same kernel, hyper-parameters included."
        )
    common: dict[str, Any] = {"descriptor_fn": descriptor_fn}
    scaling: dict[str, Any] = {k: arrays[k] for k in ("mean", "scale", "reference")}
    training = None
    if "y" in arrays:
        groups = tuple(
            Group(
                x=arrays[f"x_{i}"],
                z=arrays[f"z_{i}"],
                jacobian=arrays.get(f"jacobian_{i}"),
                has_energy=has_energy,
                kinds=tuple((kind, count) for kind, count in kinds),
            )
            for i, (has_energy, kinds) in enumerate(facts["groups"])
        )
        training = Training(
            groups=groups,
            y=arrays["y"],
            types=atoms.types,
            is_independent=facts["is_independent"],
            **scaling,
            **common,
        )
    upper = None
    if "upper" in arrays:
        upper = (arrays["upper"], arrays["upper_target"])
    system = None
    if "shift" in arrays:
        precondition = Preconditioner(arrays["root"], arrays["factor"])
        system = System(arrays["shift"], precondition)
    weights: dict[str, Any] = {
        k: arrays.get(k) for k in ("x", "z", "beta", "u", "alpha", "lower")
    }
    return KernelPotential(
        **weights,
        training=training,
        upper=upper,
        system=system,
        noise=Noise(*facts["noise"]),
        jitter=facts["jitter"],
        report=facts["report"],
        kernel=atoms,
        solver=facts["solver"],
        **scaling,
        **common,
    )


def _probe(kernel: AtomKernel, x: Array, z: Array) -> Array:
    at = np.unique(np.linspace(0, len(x) - 1, PROBES).astype(int))
    return kernel(x[at], z[at], x[at], z[at])
