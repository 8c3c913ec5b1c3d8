import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import dataclasses, io

h5py = pytest.importorskip("h5py")
pytest.importorskip("ase")

# Of ase 3.29 with numpy 2.5, in every empty `Atoms`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting the shape on a NumPy array:DeprecationWarning"
)

BOX = np.array([[4.0, 0.5, -0.25], [0.0, 5.0, 0.75], [0.0, 0.0, 6.0]])
WRITERS = {"h5md": io.H5MDWriter, "extxyz": io.XYZWriter}
DECIMALS = {"h5md": 0, "extxyz": 2e-8}


@dataclasses.dataclass
class State:
    position: jnp.ndarray
    momentum: jnp.ndarray
    force: jnp.ndarray
    mass: jnp.ndarray


@dataclasses.dataclass
class BoxState:
    position: jnp.ndarray
    velocity: jnp.ndarray
    box: jnp.ndarray


def state(step, n=5, dtype=np.float32):
    rng = np.random.default_rng(step)
    r, p, f = (rng.normal(size=(n, 3)).astype(dtype) for _ in range(3))
    return State(r, p, f, np.arange(1.0, n + 1, dtype=dtype)[:, None])


@pytest.fixture(params=WRITERS)
def kind(request):
    return request.param


def make(kind, path, mode="w", **options):
    return WRITERS[kind](path, mode, **options)


def test_round_trip(kind, tmp_path):
    path = tmp_path / "t"
    with make(
        kind,
        path,
        fields=("position", "velocity", "force"),
        box=BOX,
        dt=0.5,
        mass=state(0).mass,
        species=[1, 1, 8, 8, 6],
        pbc=(True, True, False),
        observables={"total": lambda s: jnp.sum(s.position)},
    ) as writer:
        for step in range(0, 50, 5):
            writer.write(step, state(step), observables={"stress": np.eye(3) * step})
    with io.read_trajectory(path) as trajectory:
        assert len(trajectory) == 10
        np.testing.assert_array_equal(trajectory.step, np.arange(0, 50, 5))
        np.testing.assert_array_equal(trajectory.time, np.arange(0, 50, 5) * 0.5)
        expected = [state(step) for step in trajectory.step]
        tolerance = DECIMALS[kind]
        for name, value in {
            "position": [s.position for s in expected],
            "velocity": [s.momentum / s.mass for s in expected],
            "force": [s.force for s in expected],
            "box": [BOX] * 10,
        }.items():
            np.testing.assert_allclose(trajectory[name], value, atol=tolerance, rtol=0)
        np.testing.assert_allclose(
            trajectory["total"], [s.position.sum() for s in expected], rtol=1e-6
        )
        np.testing.assert_array_equal(trajectory["stress"][3], 15 * np.eye(3))
        some = trajectory[2::3]
        np.testing.assert_array_equal(some.step, [10, 25, 40])
        np.testing.assert_array_equal(some.position, trajectory.position[2::3])
        np.testing.assert_array_equal(trajectory[[4, 1, 4]].step, [20, 5, 20])
        np.testing.assert_array_equal(
            trajectory[[4, 1, 4]].position, trajectory.position[[4, 1, 4]]
        )
        frame = some[-1]
        assert (frame.step, frame.time) == (40, 20.0)
        np.testing.assert_array_equal(frame.position, trajectory.position[8])
        assert set(frame.observables) == {"total", "stress"}
        assert [f.step for f in trajectory[::-4]] == [45, 25, 5]
        structure = trajectory.structure(1)
        np.testing.assert_array_equal(structure.species, [1, 1, 8, 8, 6])
        assert structure.pbc == (True, True, False)
        np.testing.assert_allclose(structure.momentum, expected[1].momentum, atol=1e-6)
        with pytest.raises(KeyError, match="'heat'.*position"):
            trajectory["heat"]
        with pytest.raises(IndexError):
            trajectory[10]


def test_h5md_keeps_dtype_and_layout(tmp_path):
    path = tmp_path / "t.h5"
    with io.H5MDWriter(path, box=BOX, species=np.arange(5), author="A. N. Other") as w:
        w.write(3, state(3), observables={"energy": np.float64(2.0)})
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["h5md"].attrs["version"], [1, 1])
        assert file["h5md/author"].attrs["name"] == b"A. N. Other"
        group = file["particles/all"]
        assert group["position/value"].dtype == np.float32
        np.testing.assert_array_equal(group["position/value"][0], state(3).position)
        # H5MD has lattice vectors as rows.
        np.testing.assert_array_equal(group["box/edges"][0], BOX[:, 0])
        np.testing.assert_array_equal(group["box/edges"][2], BOX[:, 2])
        assert group["box"].attrs["dimension"] == 3
        assert list(group["box"].attrs["boundary"]) == [b"periodic"] * 3
        for place in ("particles/all/velocity", "observables/energy"):
            assert file[place]["step"] == group["position/step"]
            assert file[place]["time"] == group["position/time"]
        assert file["observables/energy/value"][0] == 2.0
    assert [p.name for p in tmp_path.iterdir()] == ["t.h5"]


def test_box_of_the_state_and_fractions(kind, tmp_path):
    path = tmp_path / "t"
    with make(kind, path, fractional_coordinates=True) as writer:
        for step in range(3):
            s = state(step, dtype=np.float64)
            writer.write(step, BoxState(s.position, s.momentum, BOX * (1 + step)))
    with io.read_trajectory(path) as trajectory:
        np.testing.assert_allclose(trajectory.box[2], 3 * BOX, atol=1e-7)
        expected = state(2, dtype=np.float64).position @ (3 * BOX).T
        np.testing.assert_allclose(trajectory[2].position, expected, atol=2e-8)


def test_plain_positions_in_two_dimensions(tmp_path):
    with io.H5MDWriter(tmp_path / "t", fields=["position"], box=3.0) as writer:
        writer.write(0, np.ones((4, 2)))
    with io.read_trajectory(tmp_path / "t") as trajectory:
        assert trajectory.position.shape == (1, 4, 2)
        np.testing.assert_array_equal(trajectory[0].box, 3 * np.eye(2))
        assert trajectory.velocity is None and trajectory[0].force is None


def test_continue_and_truncate(kind, tmp_path):
    path = tmp_path / "t"
    options = {"box": BOX, "mass": 1.0, "observables": {"x": lambda s: s.force[0, 0]}}
    with make(kind, path, **options) as writer:
        for step in range(0, 100, 10):
            writer.write(step, state(step))
        with pytest.raises(ValueError, match="step 90 came after 90"):
            writer.write(90, state(90))
    with make(kind, path, "a", **options) as writer:
        with pytest.raises(ValueError, match="truncate"):
            writer.write(60, state(60))
        writer.truncate(55)
        writer.write(60, state(60))
        writer.truncate(65)  # nothing to drop
        writer.write(70, state(70))
        writer.truncate(60)  # after writing, too
        writer.write(75, state(75))
    with io.read_trajectory(path) as trajectory:
        steps = [0, 10, 20, 30, 40, 50, 60, 75]
        np.testing.assert_array_equal(trajectory.step, steps)
        expected = np.stack([state(s).position for s in steps])
        np.testing.assert_allclose(
            trajectory.position, expected, atol=DECIMALS[kind], rtol=0
        )
        np.testing.assert_allclose(
            trajectory["x"], [state(s).force[0, 0] for s in steps], rtol=1e-6
        )
    with make(kind, path, "a", **options) as writer:
        writer.truncate(-1)
        writer.write(0, state(0))
    with io.read_trajectory(path) as trajectory:
        np.testing.assert_array_equal(trajectory.step, [0])


def test_modes(kind, tmp_path):
    path = tmp_path / "t"
    with make(kind, path, "x") as writer:
        writer.write(0, state(0))
    with pytest.raises(FileExistsError, match="mode='a'"):
        make(kind, path, "x")
    with make(kind, path, "w") as writer:
        writer.write(7, state(7))
    with io.read_trajectory(path) as trajectory:
        assert trajectory.step == [7]
    with pytest.raises(ValueError, match="`mode`"):
        make(kind, path, "r")
    with pytest.raises(FileNotFoundError, match="folder"):
        make(kind, tmp_path / "no" / "t")
    with make(kind, tmp_path / "new", "a") as writer:
        writer.write(0, state(0))


def test_errors_of_write(kind, tmp_path):
    with make(kind, tmp_path / "t", box=BOX) as writer:
        writer.write(0, state(0))
        bad = state(1)
        bad = bad.set(position=np.where(np.eye(5, 3, -3), np.nan, 1.0))
        with pytest.raises(ValueError, match="particle 3 is not, at step 1"):
            writer.write(1, bad)
        with pytest.raises(ValueError, match=r"\[n, d\]"):
            writer.write(1, np.ones(3))
    with pytest.raises(ValueError, match="`fields`"):
        make(kind, tmp_path / "t", fields=["velocity"])
    with make(kind, tmp_path / "t", fractional_coordinates=True) as writer:
        with pytest.raises(ValueError, match="needs a box"):
            writer.write(0, state(0))
    with make(kind, tmp_path / "t", fields=("position", "force")) as writer:
        with pytest.raises(ValueError, match="'force'.*BoxState"):
            writer.write(0, BoxState(np.ones((2, 3)), np.ones((2, 3)), BOX))


def test_h5md_frames_must_agree(tmp_path):
    with io.H5MDWriter(tmp_path / "t", box=BOX) as writer:
        writer.write(0, state(0), observables={"e": 1.0})
        with pytest.raises(ValueError, match="every frame"):
            writer.write(1, state(1))
        with pytest.raises(ValueError, match=r"`position` must have shape \(5, 3\)"):
            writer.write(1, state(1, n=6), observables={"e": 1.0})
        writer.write(1, state(1), observables={"e": 2.0})
    with pytest.raises(ValueError, match="closed"):
        writer.write(2, state(2))
    with io.read_trajectory(tmp_path / "t") as trajectory:
        assert len(trajectory) == 2


def test_errors_of_read(tmp_path):
    path = tmp_path / "t"
    with pytest.raises(FileNotFoundError, match="no file"):
        io.read_trajectory(path)
    path.write_text("no trajectory\nat all\n")
    with pytest.raises(ValueError, match="no XYZ trajectory"):
        io.read_trajectory(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="no H5MD"):
        io.read_trajectory(path)
    with io.H5MDWriter(path) as writer:
        writer.write(0, state(0))
    with pytest.raises(ValueError, match=r"\['all'\]"):
        io.read_trajectory(path, group="other")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        io.read_trajectory(path)


def test_other_h5md_files_are_read(tmp_path):
    # An interval instead of steps, a cuboid box, the format before single-writer mode.
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/water")
        group.create_group("box").attrs["boundary"] = ["periodic", "none"]
        group["box"].attrs["dimension"] = 2
        group["box/edges"] = [2.0, 3.0]
        group["position/value"] = np.arange(12.0).reshape(3, 2, 2)
        group["position/step"] = 10
        group["position/step"].attrs["offset"] = 5
    with io.read_trajectory(path) as trajectory:
        np.testing.assert_array_equal(trajectory.step, [5, 15, 25])
        np.testing.assert_array_equal(trajectory.box[0], np.diag([2.0, 3.0]))
        np.testing.assert_array_equal(trajectory[1].position, [[4, 5], [6, 7]])
        assert trajectory.time is None
        assert trajectory._source.static["pbc"] == (True, False)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_incomplete_last_frame_of_xyz(tmp_path, cut):
    path = tmp_path / "t.xyz"
    with io.XYZWriter(path, box=BOX) as writer:
        for step in range(4):
            writer.write(step, state(step))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="incomplete"):
        trajectory = io.read_trajectory(path)
    np.testing.assert_array_equal(trajectory.step, [0, 1, 2])
    trajectory.close()
    with io.XYZWriter(path, "a", box=BOX) as writer:
        writer.write(3, state(3))
    with io.read_trajectory(path) as trajectory:
        np.testing.assert_array_equal(trajectory.step, [0, 1, 2, 3])


WRITER = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from jax_md import io

kind, path = sys.argv[1:]
make = {"h5md": io.H5MDWriter, "extxyz": io.XYZWriter}[kind]
n = {"h5md": 20_000, "extxyz": 2_000}[kind]
with make(path, "a", fields=["position"], box=4.0) as writer:
    writer.truncate(int(sys.stdin.readline()))
    step = writer._last + 1 if writer._last is not None else 0
    while True:
        writer.write(step, np.full((n, 3), float(step)), observables={"s": step})
        print("ready", flush=True)
        step += 1
"""


@pytest.mark.filterwarnings("ignore:the last frame of")
def test_killed_while_writing(kind, tmp_path):
    path, before = tmp_path / "t", 0
    for delay in (0.11, 0.173, 0.231):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
        )
        keep = max(0, before - 2)  # as after a restart from an earlier checkpoint
        child.stdin.write(f"{keep - 1}\n".encode())
        child.stdin.flush()
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.wait()
        child.stdout.close()
        child.stdin.close()
        with io.read_trajectory(path) as trajectory:
            before = len(trajectory)
            assert before > keep
            np.testing.assert_array_equal(trajectory.step, np.arange(before))
            for i in {0, keep, before // 2, before - 1}:
                assert (trajectory[i].position == i).all()
            np.testing.assert_array_equal(trajectory["s"], np.arange(before))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_h5md_is_readable_while_it_is_written(tmp_path):
    path = tmp_path / "t"
    with io.H5MDWriter(path, fields=["position"]) as writer:
        for step in range(3):
            writer.write(step, np.full((2, 3), step))
        code = (
            "import sys; from jax_md import io;"
            "t = io.read_trajectory(sys.argv[1]); print(len(t), t.position.sum())"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, path],
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert out.split() == ["3", "18"]
