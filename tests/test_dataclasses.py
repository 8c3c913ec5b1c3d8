"""Dataclasses that travel through transformations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import dataclasses


@dataclasses.dataclass
class State:
    position: Any
    momentum: Any
    name: str = dataclasses.static_field(default="a")

    @property
    def kinetic(self):
        return jnp.sum(self.momentum**2) / 2


@pytest.fixture
def state():
    return State(jnp.arange(3.0), jnp.ones(3))


def test_set_returns_a_copy(state):
    moved = state.set(position=jnp.zeros(3), name="b")
    assert (moved.name, state.name) == ("b", "a")
    assert moved.momentum is state.momentum
    assert state.position[1] == 1
    with pytest.raises(TypeError, match="velocity"):
        state.set(velocity=1)


def test_is_frozen(state):
    with pytest.raises(AttributeError):
        state.position = 0
    with pytest.raises(TypeError, match="`frozen=False`"):
        dataclasses.dataclass(frozen=False)


def test_is_a_pytree(state):
    assert len(jax.tree.leaves(state)) == 2
    doubled = jax.tree.map(lambda x: 2 * x, state)
    assert isinstance(doubled, State) and doubled.name == "a"
    assert doubled.position[2] == 4
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(state)]
    assert paths == [".position", ".momentum"]


def test_travels_through_transformations(state):
    @jax.jit
    def step(state):
        return state.set(position=state.position + state.momentum)

    assert step(state).position[0] == 1
    looped = jax.lax.fori_loop(0, 3, lambda i, s: step(s), state)
    np.testing.assert_array_equal(looped.position, jnp.arange(3.0) + 3)
    gradient = jax.grad(lambda s: s.kinetic)(state)
    np.testing.assert_array_equal(gradient.momentum, state.momentum)
    np.testing.assert_array_equal(gradient.position, 0 * state.position)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    assert jax.vmap(lambda s: s.kinetic)(batch).shape == (2,)


def test_a_static_field_recompiles(state):
    traces = []

    @jax.jit
    def step(state):
        traces.append(state.name)
        return state

    for name in ("a", "b", "a"):
        step(state.set(name=name))
    assert traces == ["a", "b"]


def test_static_field_metadata():
    fields = {f.name: f for f in dataclasses.fields(State)}
    assert fields["name"].metadata["static"] is True
    assert fields["name"].metadata["pytree_node"] is False
    custom = dataclasses.static_field(metadata={"unit": "eV"})
    assert custom.metadata["unit"] == "eV" and custom.metadata["static"]


def test_arguments_and_standard_functions():
    @dataclasses.dataclass(frozen=True, order=True)
    class Point:
        x: float
        y: Any = dataclasses.field(default_factory=tuple)

    point = Point(1.0)
    assert Point(0.5) < point
    assert dataclasses.is_dataclass(point)
    assert dataclasses.asdict(point) == {"x": 1.0, "y": ()}
    assert dataclasses.astuple(point) == (1.0, ())
    assert dataclasses.replace(point, x=2.0) == Point(2.0)


def test_unpack_is_not_recursive():
    inner = State(1, 2)
    assert dataclasses.unpack(State(inner, 3)) == (inner, 3, "a")


def test_a_class_keeps_a_set_of_its_own():
    @dataclasses.dataclass
    class Own:
        x: int

        def set(self, value):
            return self.x + value

    assert Own(1).set(2) == 3
