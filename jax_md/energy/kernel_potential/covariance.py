r"""Covariances of energies, forces and stresses, from derivatives of the kernel.

A weight of every datum becomes, for each atom j of the data, a weight :math:`\beta_j`
and a direction :math:`u_j` in the space of descriptors. What they make of an atom is

.. math:: e(x) = \sum_j [\beta_j k(x, x_j) + (u_j \cdot \partial_2) k(x, x_j)],

one directional derivative of the kernel; its slope is one gradient more. Neither the
second derivatives of the kernel nor blocks of forces with forces are ever written out,
unless the matrix of all data is asked for.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .kernels import AtomKernel
from .observations import Group, Training

Atoms = tuple[Array, Array]  # descriptors [n, f] and species [n]


def influence(
    kernel: AtomKernel, atoms: Atoms, sources: Atoms, beta: Array, u: Array | None
) -> Float[Array, " n"]:
    """Energies of atoms, given weights ``[m]`` and directions ``[m, f]``."""
    x, z = atoms
    X, Z = sources
    if u is None:
        return kernel(x, z, X, Z) @ beta
    k, along = jax.jvp(lambda X: kernel(x, z, X, Z), (X,), (u,))
    return k @ beta + jnp.sum(along, 1)


def observe(member: Group, energies: Any) -> Float[Array, " p"]:
    """The data of one structure if ``energies(x)`` are those of its atoms."""
    parts = []
    if member.jacobian is None:
        v = energies(member.x)
    else:
        v, pull = jax.vjp(energies, member.x)
        (g,) = pull(jnp.ones_like(v))
        parts.append(jnp.einsum("ifq,if->q", member.jacobian, g))
    if member.has_energy:
        parts.insert(0, jnp.sum(v)[None])
    return jnp.concatenate(parts)


def directions(
    member: Group, weights: Float[Array, " p"]
) -> tuple[Array, Array | None]:
    """Weights and directions of the atoms that weights of its data amount to."""
    n = member.x.shape[0]
    beta = jnp.zeros(n, weights.dtype)
    if member.has_energy:
        beta, weights = jnp.broadcast_to(weights[0], (n,)), weights[1:]
    if member.jacobian is None:
        return beta, None
    return beta, jnp.einsum("ifq,q->if", member.jacobian, weights)


def spread(training: Training, weights: Float[Array, " p"]) -> tuple[Array, Any]:
    """`directions` of all atoms of the data, ``[a]`` and ``[a, f]`` or None."""
    betas, us = [], []
    for group, own in zip(training.groups, split(training, weights), strict=True):
        beta, u = jax.vmap(directions)(group, own)
        betas.append(beta.reshape(-1))
        f = group.x.shape[-1]
        us.append(None if u is None else u.reshape(-1, f))
    if not training.has_slopes:
        return jnp.concatenate(betas), None
    us = [
        jnp.zeros((b.shape[0], training.mean.shape[0]), b.dtype) if u is None else u
        for b, u in zip(betas, us, strict=True)
    ]
    return jnp.concatenate(betas), jnp.concatenate(us)


def split(training: Training, data: Float[Array, " p"]) -> list[Array]:
    """Cut data into ``[g, p]`` for each group."""
    out, at = [], 0
    for group in training.groups:
        g = group.x.shape[0]
        out.append(data[at : at + g * group.rows].reshape(g, group.rows))
        at += g * group.rows
    return out


def product(
    kernel: AtomKernel, training: Training, weights: Float[Array, " p"]
) -> Float[Array, " p"]:
    """The covariance matrix times a vector, without the matrix."""
    beta, u = spread(training, weights)
    sources = (training.x, training.z)
    out = []
    for group in training.groups:

        def one(member: Group) -> Array:
            def energies(x: Array) -> Array:
                return influence(kernel, (x, member.z), sources, beta, u)

            return observe(member, energies)

        out.append(lax.map(one, group).reshape(-1))
    return jnp.concatenate(out)


def block(kernel: AtomKernel, one: Group, other: Group) -> Float[Array, "p r"]:
    """Covariances of the data of two structures, each one member of a group."""

    def column(weights: Array) -> Array:
        beta, u = directions(other, weights)

        def energies(x: Array) -> Array:
            return influence(kernel, (x, one.z), (other.x, other.z), beta, u)

        return observe(one, energies)

    basis = jnp.eye(other.rows, dtype=one.x.dtype)
    return jax.vmap(column, out_axes=1)(basis)


def covariance(
    kernel: AtomKernel, rows: Training, columns: Training | None = None
) -> Float[Array, "p r"]:
    """The matrix of covariances of all data, of one training set or between two."""
    same = columns is None
    rows = jax.tree.map(jnp.asarray, rows)
    other = rows if columns is None else jax.tree.map(jnp.asarray, columns)
    table: list[list[Any]] = [[None] * len(other.groups) for _ in rows.groups]
    for a, mine in enumerate(rows.groups):
        for b, its in enumerate(other.groups):
            if same and b < a:
                table[a][b] = table[b][a].T
                continue
            g, h = mine.x.shape[0], its.x.shape[0]
            i, j = jnp.indices((g, h)).reshape(2, -1)
            if same and a == b:  # symmetric: half of the blocks
                i, j = jnp.triu_indices(g)

            def of_pair(at: Any, mine: Group = mine, its: Group = its) -> Array:
                one, two = (
                    jax.tree.map(lambda leaf, k=k: leaf[k], group)
                    for group, k in zip((mine, its), at, strict=True)
                )
                return block(kernel, one, two)

            found = lax.map(of_pair, (i, j))
            whole = jnp.zeros((g, mine.rows, h, its.rows), found.dtype)
            if same and a == b:
                whole = whole.at[j, :, i].set(jnp.swapaxes(found, 1, 2))
            whole = whole.at[i, :, j].set(found)
            table[a][b] = whole.reshape(g * mine.rows, h * its.rows)
    return jnp.block(table)


def diagonal(kernel: AtomKernel, training: Training) -> Float[Array, " p"]:
    """The diagonal of `covariance`."""
    out = []
    for group in training.groups:

        def own(member: Group) -> Array:
            return jnp.diagonal(block(kernel, member, member))

        out.append(lax.map(own, group).reshape(-1))
    return jnp.concatenate(out)


def cross(
    kernel: AtomKernel, atoms: Atoms, groups: Iterable[Group]
) -> Float[Array, "n p"]:
    """Covariances of the energies of single atoms with all data."""
    x, z = atoms
    out = []
    for group in groups:

        def of_member(member: Group) -> Array:
            parts = []
            if member.has_energy:
                parts.append(jnp.sum(kernel(x, z, member.x, member.z), 1)[:, None])
            if member.jacobian is not None:

                def slope(x: Array, z: Array) -> Array:
                    # Each atom of the member enters one kernel: a single gradient
                    # of their sum is that of every one.
                    def k(X: Array) -> Array:
                        return jnp.sum(kernel(x[None], z[None], X, member.z))

                    return jax.grad(k)(member.x)

                slopes = jax.vmap(slope)(x, z)  # [n, atoms of the member, f]
                parts.append(jnp.einsum("nif,ifq->nq", slopes, member.jacobian))
            return jnp.concatenate(parts, 1)

        found = lax.map(of_member, group)  # [g, n, rows]
        out.append(jnp.moveaxis(found, 0, 1).reshape(x.shape[0], -1))
    return jnp.concatenate(out, 1)
