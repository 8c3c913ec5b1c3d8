import os
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import io
from jax_md.simulate.report import (
    NeighborListError,
    Report,
    RunInterrupted,
    SimulationDiverged,
)
from jax_md.simulate.run import run
from tests.simulate.run_toys import energy, start, toy_list, toy_simulator


def same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def by_hand(simulator, state, steps, neighbors=None, **run_time):
    @jax.jit
    def one(state, neighbors):
        if neighbors is None:
            return simulator.step(state, **run_time), None
        state = simulator.step(state, neighbor=neighbors, **run_time)
        return state, neighbors.update(state.position)

    for _ in range(steps):
        state, neighbors = one(state, neighbors)
    return state


SIMULATOR = toy_simulator()
NOISY = toy_simulator(gamma=1.0)
STATE = SIMULATOR.init(jax.random.key(0), start())


class Frames:
    def __init__(self):
        self.steps, self.positions, self.cuts = [], [], []

    def write(self, step, state):
        self.steps.append(step)
        self.positions.append(np.asarray(state.position))

    def truncate(self, step):
        self.cuts.append(step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_list_it_is_the_loop_by_hand(dtype):
    state = SIMULATOR.init(jax.random.key(0), start(dtype=dtype))
    result = run(SIMULATOR, state, 25)
    expected = by_hand(SIMULATOR, state, 25)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12  # another fusion, 25 steps
    np.testing.assert_allclose(result.state.position, expected.position, atol=tolerance)
    assert result.state.position.dtype == dtype
    assert result.records is None and result.neighbors is None
    assert result.report.steps == result.report.last_step == 25
    assert "rebuilds" not in str(result.report)


def test_with_a_list_it_is_the_loop_by_hand():
    neighbor_fn = toy_list(multiplier=3.0)
    neighbors = neighbor_fn.allocate(STATE.position)
    result = run(SIMULATOR, STATE, 60, neighbor_fn=neighbor_fn)
    expected = by_hand(SIMULATOR, STATE, 60, neighbors)
    np.testing.assert_allclose(result.state.position, expected.position, atol=1e-10)
    assert 0 < result.report.rebuilds < 60
    assert result.report.growths == 0
    given = run(SIMULATOR, STATE, 60, neighbors=neighbors)
    same_bits(given.state, result.state)
    assert "rebuilds" in str(result.report)


@pytest.mark.parametrize("rebuilds", [None, 0, 4])
def test_a_report_prints(rebuilds):
    text = str(
        Report(
            steps=10,
            last_step=30,
            particles=5,
            rebuilds=rebuilds,
            growths=0,
            compile_seconds=1.0,
            wall_seconds=2.0,
            step_seconds=0.0,
        )
    )
    assert "10 (to step 30)" in text
    assert ("rebuilds" in text) == (rebuilds is not None)
    assert ("every 2.5 steps" in text) == (rebuilds == 4)


def test_growth_gives_the_run_with_a_large_list():
    capacities = []
    state = SIMULATOR.init(jax.random.key(1), start())
    tight = run(SIMULATOR, state, 400, neighbor_fn=toy_list(log=capacities))
    large = run(SIMULATOR, state, 400, neighbor_fn=toy_list(multiplier=6.0))
    assert tight.report.growths > 0
    assert large.report.growths == 0
    # Empty slots add exact zeros at the end of a row.
    same_bits(tight.state.position, large.state.position)
    assert tight.report.rebuilds == large.report.rebuilds > 0
    assert max(capacities) < 39
    assert capacities[0] < capacities[-1]


def test_growth_takes_few_capacities():
    capacities, traces = [], []
    simulator = toy_simulator(log=traces, gamma=1.0, kT=2.0)
    state = simulator.init(jax.random.key(1), start())
    result = run(simulator, state, 600, neighbor_fn=toy_list(log=capacities))
    assert 0 < result.report.growths <= 4
    # What one compilation traces, times the number of list shapes.
    per_compilation = len(traces) / (1 + result.report.growths)
    again = len(traces)
    run(simulator, state, 300, neighbors=result.neighbors, neighbor_fn=toy_list())
    assert len(traces) == again
    assert per_compilation <= 6


def test_overflow_without_neighbor_fn_stops():
    neighbors = toy_list().allocate(STATE.position)
    with pytest.raises(NeighborListError, match="`neighbor_fn`") as caught:
        run(SIMULATOR, STATE, 400, neighbors=neighbors)
    assert 0 < caught.value.step < 400
    assert np.isfinite(caught.value.state.position).all()


def test_list_that_cannot_grow_stops():
    neighbor_fn = toy_list()
    stuck = neighbor_fn._replace(
        allocate=lambda R, **kw: neighbor_fn.allocate(R).set(overflow=jnp.asarray(True))
    )
    with pytest.raises(NeighborListError, match="still overflowed"):
        run(
            SIMULATOR,
            STATE,
            10,
            neighbor_fn=stuck,
            neighbors=stuck.allocate(STATE.position),
        )


def test_records():
    observe = {
        "energy": lambda state, neighbor: energy(state.position, neighbor),
        "kinetic": lambda state: 0.5 * jnp.sum(state.momentum**2),
        "kT": lambda state, kT: kT,
        "step": None,
    }
    with pytest.raises(ValueError, match="step"):
        run(SIMULATOR, STATE, 1, observe=observe)
    del observe["step"]
    result = run(
        SIMULATOR,
        STATE,
        95,
        neighbor_fn=toy_list(multiplier=3.0),
        observe=observe,
        conserved=lambda state, **kw: (
            energy(state.position, **kw) + 0.5 * jnp.sum(state.momentum**2)
        ),
        every=10,
        kT=lambda step: 0.1 * step,
    )
    records = result.records
    np.testing.assert_array_equal(records.step, np.arange(0, 95, 10))
    np.testing.assert_allclose(records["kT"], records.step * 0.1)
    np.testing.assert_allclose(records["energy"][0], energy(STATE.position), rtol=1e-12)
    state = by_hand(SIMULATOR, STATE, 30)
    np.testing.assert_allclose(records["energy"][3], energy(state.position), rtol=1e-8)
    total = records["energy"] + records["kinetic"]
    np.testing.assert_allclose(records.conserved, total, rtol=1e-12)
    np.testing.assert_allclose(result.report.drift, total[-1] - total[0])
    assert abs(result.report.drift) < 0.02 * total[0]
    assert "drift" in str(result.report)


@pytest.mark.parametrize("every", [1, 7, 300])
def test_records_at_any_interval(every):
    result = run(SIMULATOR, STATE, 200, observe=lambda s: s.position[0], every=every)
    np.testing.assert_array_equal(result.records.step, np.arange(0, 201, every))
    assert result.records.value.shape == (200 // every + 1, 2)
    expected = run(SIMULATOR, STATE, 200 // every * every).state
    np.testing.assert_array_equal(result.records.value[-1], expected.position[0])
    assert len(result.records) == 200 // every + 1


def test_records_when_a_list_grows_are_complete():
    state = SIMULATOR.init(jax.random.key(1), start())
    tight, large = (
        run(
            SIMULATOR,
            state,
            400,
            neighbor_fn=toy_list(multiplier=m),
            observe=lambda s, neighbor: energy(s.position, neighbor),
            every=1,
        )
        for m in (1.0, 6.0)
    )
    assert tight.report.growths
    np.testing.assert_array_equal(tight.records.step, np.arange(401))
    np.testing.assert_allclose(tight.records.value, large.records.value, rtol=1e-12)


def test_a_run_in_two_parts_has_no_record_twice():
    observe = {"x": lambda s: s.position[0, 0]}
    whole = run(NOISY, STATE, 60, observe=observe, every=10)
    one = run(NOISY, STATE, 30, observe=observe, every=10)
    two = run(NOISY, one.state, 30, observe=observe, every=10, start=30)
    steps = np.concatenate([one.records.step, two.records.step])
    np.testing.assert_array_equal(steps, whole.records.step)
    np.testing.assert_array_equal(
        np.concatenate([one.records["x"], two.records["x"]]), whole.records["x"]
    )
    same_bits(two.state, whole.state)


def test_run_time_parameters_are_traced():
    traces = []
    simulator = toy_simulator(log=traces)
    state = simulator.init(jax.random.key(0), start())
    run(simulator, state, 10, kT=1.0, gamma=0.5, strength=jnp.asarray(10.0))
    count = len(traces)
    for kT in (0.5, 2.0):
        run(simulator, state, 233, kT=kT, gamma=0.1, strength=jnp.asarray(kT))
    assert len(traces) == count


def test_schedule_sees_absolute_steps():
    seen = run(
        SIMULATOR,
        STATE,
        20,
        start=100,
        every=5,
        kT=lambda step: step * 2,
        observe=lambda state, kT, step: (kT, step),
    ).records
    np.testing.assert_array_equal(seen.value[0], [210, 220, 230, 240])
    np.testing.assert_array_equal(seen.value[1], seen.step)
    # The value at step i takes state i to state i + 1.
    ramp = run(SIMULATOR, STATE, 3, dt=lambda step: 0.01 * (1 + step)).state
    state = STATE
    for dt in (0.01, 0.02, 0.03):
        state = SIMULATOR.step(state, dt=dt)
    np.testing.assert_allclose(ramp.position, state.position, atol=1e-12)


def test_misspelt_parameter_is_refused():
    with pytest.raises(TypeError, match="temperature"):
        run(SIMULATOR, STATE, 5, temperature=1.0)


@pytest.mark.parametrize("bad_step", [1, 77, 128, 200])
def test_divergence_names_step_and_particle(tmp_path, bad_step):
    def step(state, *, neighbor):
        state = SIMULATOR.step(state, neighbor=neighbor)
        key = jax.random.key_data(state.rng)
        poison = jnp.all(key == bad_key) & (jnp.arange(40) == 17)
        return state.set(momentum=jnp.where(poison[:, None], jnp.nan, state.momentum))

    good = run(SIMULATOR, STATE, bad_step - 1, neighbor_fn=toy_list(multiplier=3.0))
    bad_key = jax.random.key_data(SIMULATOR.step(good.state).rng)
    path = tmp_path / "c.npz"
    with pytest.raises(SimulationDiverged, match="particle 17") as caught:
        run(
            SIMULATOR._replace(step=step),
            STATE,
            300,
            neighbor_fn=toy_list(multiplier=3.0),
            observe=lambda s: s.position,
            every=20,
            checkpoint=path,
        )
    error = caught.value
    assert (error.step, error.particle, error.leaf) == (bad_step, 17, "momentum")
    assert f"step {bad_step}" in str(error)
    same_bits(error.state, good.state)
    same_bits(error.neighbors, good.neighbors)
    assert error.run.report.last_step == bad_step - 1
    saved = io.load_checkpoint(tmp_path / "c.npz.diverged")
    assert saved.meta["step"] == bad_step - 1
    np.testing.assert_array_equal(saved.tree["state"]["position"], good.state.position)


def test_state_that_is_not_finite_at_the_start():
    with pytest.raises(ValueError, match="`position`.*particle 3"):
        run(SIMULATOR, STATE.set(position=STATE.position.at[3, 0].set(jnp.nan)), 5)
    with pytest.raises(ValueError, match="`force`.*particle 2"):
        run(SIMULATOR, STATE.set(force=STATE.force.at[2, 1].set(jnp.inf)), 5)


def test_arguments_out_of_range():
    for wrong in (
        {"steps": -1},
        {"steps": 2.5},
        {"every": 0},
        {"writer_every": 0},
        {"checkpoint_every": 0, "checkpoint": "x"},
        {"checkpoint_every": 5},
        {"restart": True},
        {"start": -3},
        {"neighbor": None},
    ):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}"):
            run(SIMULATOR, STATE, **{"steps": 5, **wrong})
    with pytest.raises(TypeError, match="'a' is int"):
        run(SIMULATOR, STATE, 5, observe={"a": 3})
    with pytest.raises(TypeError, match=r"leaf `position`.*float64.*float32"):
        simulator = SIMULATOR._replace(
            step=lambda s: s.set(position=s.position.astype(jnp.float32))
        )
        run(simulator, STATE, 5)


def test_no_steps():
    result = run(SIMULATOR, STATE, 0, observe=lambda s: s.position)
    same_bits(result.state, STATE)
    assert result.records.value.shape == (1, 40, 2)


def test_writer():
    frames = Frames()
    result = run(SIMULATOR, STATE, 50, writer=frames, writer_every=15)
    assert frames.steps == [0, 15, 30, 45]
    np.testing.assert_array_equal(frames.positions[0], STATE.position)
    np.testing.assert_array_equal(
        frames.positions[2], run(SIMULATOR, STATE, 30).state.position
    )
    assert not frames.cuts
    assert result.report.last_step == 50


@pytest.mark.parametrize("given", [False, True])
def test_restart_is_exact_to_the_bit(tmp_path, given):
    neighbor_fn = toy_list()  # grows on the way
    state = NOISY.init(jax.random.key(1), start(dtype=np.float32))
    path = tmp_path / "c.npz"
    common = {
        "neighbor_fn": neighbor_fn,
        "observe": {"x": lambda s, neighbor: (s.force, energy(s.position, neighbor))},
        "every": 7,
        "kT": lambda step: 0.5 + 0.001 * step,
    }
    if given:
        common["neighbors"] = neighbor_fn.allocate(state.position, extra_capacity=1)
    whole = run(NOISY, state, 300, **common)
    assert bool(whole.report.growths) != given
    steps = []
    for last in (0, 13, 140, 141, 300):
        frames = Frames()
        part = run(
            NOISY,
            state,
            last,
            checkpoint=path,
            restart=True,
            writer=frames,
            writer_every=20,
            **common,
        )
        assert frames.cuts == [part.report.last_step - part.report.steps - (not steps)]
        steps += frames.steps
    same_bits(part.state, whole.state)
    same_bits(part.neighbors, whole.neighbors)
    same_bits(part.records, whole.records)
    assert part.report.growths == whole.report.growths
    assert part.report.rebuilds == whole.report.rebuilds
    assert steps == list(range(0, 301, 20))
    with pytest.raises(ValueError, match="beyond"):
        run(NOISY, state, 100, checkpoint=path, restart=True, **common)


def test_restart_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "c.npz"
    run(SIMULATOR, STATE, 5, checkpoint=path, observe=lambda s: s.position[0])
    with pytest.raises(ValueError, match="`observe`"):
        run(
            SIMULATOR,
            STATE,
            9,
            checkpoint=path,
            restart=True,
            observe=lambda s: (s.position[0], s.position[1]),
        )
    smaller = SIMULATOR.init(jax.random.key(0), start(n=30))
    with pytest.raises(ValueError, match=r"\.position"):
        run(
            SIMULATOR,
            smaller,
            9,
            checkpoint=path,
            restart=True,
            observe=lambda s: s.position[0],
        )
    io.save_checkpoint(path, {"x": 1})
    with pytest.raises(ValueError, match="not one of `simulate.run`"):
        run(SIMULATOR, STATE, 9, checkpoint=path, restart=True)


def test_signal_stops_with_a_checkpoint(tmp_path):
    path = tmp_path / "c.npz"
    options = {"observe": lambda s: s.position[0], "every": 50, "checkpoint": path}

    class Interrupting(Frames):
        def write(self, step, state):
            super().write(step, state)
            if step == 100:
                os.kill(os.getpid(), number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        with pytest.raises(RunInterrupted, match=str(path)) as caught:
            run(SIMULATOR, STATE, 10_000, writer=Interrupting(), **options)
        assert caught.value.signal == number
        assert caught.value.run.report.last_step == 100
        np.testing.assert_array_equal(caught.value.run.records.step, [0, 50, 100])
        assert signal.getsignal(number) is before
    resumed = run(SIMULATOR, STATE, 200, restart=True, **options)
    same_bits(resumed.state, run(SIMULATOR, STATE, 200).state)
    np.testing.assert_array_equal(resumed.records.step, np.arange(0, 201, 50))


def test_run_in_a_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(SIMULATOR, STATE, 9)))
    thread.start()
    thread.join()
    assert results[0].report.steps == 9


def test_progress_and_report(capsys):
    result = run(SIMULATOR, STATE, 300, progress=True, fs_per_step=2.0)
    shown = capsys.readouterr().err
    assert "ns/day" in shown and "300" in shown
    run(SIMULATOR, STATE, 300)
    assert not capsys.readouterr().err  # no terminal, no bar
    report = result.report
    np.testing.assert_allclose(
        report.ns_per_day, report.steps_per_second * 2e-6 * 86400
    )
    assert report.atom_steps_per_second == 40 * report.steps_per_second
    assert report.compile_seconds > 0
    assert "ns/day" in str(report)


KILLED = """
import sys, jax

import numpy as np
from tests.simulate.run_toys import start, toy_list, toy_simulator
from jax_md.simulate.run import run

class Slow:
    def write(self, step, state):
        if step:
            print(step, flush=True)

simulator = toy_simulator(gamma=1.0)
state = simulator.init(jax.random.key(1), start(dtype=np.float32))
result = run(
    simulator, state, 600, neighbor_fn=toy_list(), checkpoint=sys.argv[1],
    checkpoint_every=20, restart=True, writer=Slow(), writer_every=20,
)
np.save(sys.argv[2], result.state.position)
"""


def test_killed_and_run_again_gives_the_same_bits(tmp_path):
    def launch(name):
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "c.npz", tmp_path / name],
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "PYTHONPATH": os.getcwd(),
                "JAX_ENABLE_X64": "1",
                "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            },
        )

    child = launch("a.npy")
    child.stdout.readline()
    time.sleep(0.05)
    child.kill()
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "a.npy").exists()
    assert 0 < io.load_checkpoint(tmp_path / "c.npz").meta["step"] < 600
    launch("a.npy").communicate()
    state = NOISY.init(jax.random.key(1), start(dtype=np.float32))
    whole = run(NOISY, state, 600, neighbor_fn=toy_list())
    assert whole.report.growths
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), whole.state.position)
