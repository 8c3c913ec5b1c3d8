"""Each example runs small and short, and its numbers are checked."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import bubble_raft, common, jamming, quickstart, recover_force_field

EXAMPLES = Path(bubble_raft.__file__).parent


@pytest.mark.parametrize("words", [[], ["--smoke"], ["--smoke", "--output", "there"]])
def test_command_line(words, monkeypatch):
    calls = []

    def main(smoke=False, output="here"):
        calls.append((smoke, output))

    monkeypatch.setattr(sys, "argv", ["example.py", *words])
    common.command_line(main)
    assert calls == [("--smoke" in words, "there" if "there" in words else "here")]


def test_an_example_runs_as_a_script_from_anywhere(tmp_path):
    script = EXAMPLES / "colloid_protocol.py"
    asked = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    assert "least work" in asked.stdout and "output/colloid_protocol" in asked.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    output = tmp_path_factory.mktemp("quickstart")
    return quickstart.main(smoke=True, output=output), output


def test_quickstart_relaxes_to_the_published_crystal(quick):
    relaxed = quick[0]["relaxed"]
    for name, tolerance in (
        ("lattice constant", 0.002),  # Angstrom
        ("cohesive energy", 0.005),  # eV
        ("bulk modulus", 2.0),  # GPa
    ):
        published, _ = quickstart.PUBLISHED[name]
        assert relaxed[name] == pytest.approx(published, abs=tolerance), name


def test_quickstart_heats(quick):
    melt = quick[0]["melt"]
    assert melt["temperature"][0] == pytest.approx(600, rel=0.1)
    assert melt["temperature"][-1] > 1000
    assert melt["energy"][-1] > melt["energy"][0] + 0.05
    # Nearest neighbors of the crystal stand at a / sqrt(2).
    assert melt["radius"][np.argmax(melt["300 K"])] == pytest.approx(2.556, abs=0.06)
    assert np.max(melt["300 K"]) > np.max(melt["3,000 K"]) > 1


def test_quickstart_gradient_is_right(quick):
    fit = quick[0]["fit"]
    for name, gradient in fit["gradient"].items():
        assert gradient == pytest.approx(fit["difference"][name], rel=1e-4), name
    assert fit["losses"][-1] < 0.5 * fit["losses"][0]


def test_quickstart_writes(quick):
    for name in ("copper.h5", "copper.csv", "copper.checkpoint", "copper.png"):
        assert (quick[1] / name).stat().st_size > 0, name


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    output = tmp_path_factory.mktemp("bubble_raft")
    return bubble_raft.main(smoke=True, output=output), output


def check_ways(ways, tolerance):
    exact = ways["implicit"]
    for name in ("positions fixed", "unrolled", "differences"):
        assert ways[name]["energy"] == pytest.approx(exact["energy"], rel=1e-6), name
    # A pressure does see the discs move, which positions that are held leave out.
    for name in ("unrolled", "differences"):
        pressure = ways[name]["pressure"]
        assert pressure == pytest.approx(exact["pressure"], rel=tolerance), name
    assert abs(ways["positions fixed"]["pressure"] / exact["pressure"] - 1) > 0.1


@pytest.mark.slow
def test_bubble_raft_has_one_gradient(raft):
    check_ways(raft[0]["ways"], 1e-2)  # 400 steps of FIRE leave so much
    assert 0.05 < min(raft[0]["energy"]) < max(raft[0]["energy"]) < 1
    path = raft[0]["path"]
    assert len(path) == 5 and path[-1] > path[0] and raft[0]["slope"][1] > 0
    assert len(raft[0]["rafts"]) == 3
    assert (raft[1] / "bubble_raft.png").stat().st_size > 0


@pytest.mark.slow
def test_bubble_rafts_are_frustrated_most_at_four_fifths(tmp_path):
    result = bubble_raft.main(output=tmp_path)
    E, slope = np.array(result["energy"]), np.array(result["slope"])
    assert 0.75 <= result["peak"] <= 0.85
    assert np.all((0.4 < E) & (E < 0.65)) and np.argmin(E) == len(E) - 1
    assert np.all(slope[:8] > 0) and np.all(slope[-4:-1] < 0)
    assert 0.75 <= result["path"][-1] <= 0.87
    check_ways(result["ways"], 1e-4)


@pytest.mark.slow
def test_jamming_designs_a_packing():
    result = jamming.main(smoke=True)
    slopes = result["slopes"]
    assert slopes["implicit"] == pytest.approx(slopes["difference"], rel=1e-4)
    assert result["history"][-1] == pytest.approx(result["wanted"], rel=1e-3)
    assert result["change"] < 0.1


@pytest.mark.slow
def test_recover_force_field(tmp_path):
    result = recover_force_field.main(smoke=True, output=tmp_path)
    guess, truth = recover_force_field.GUESS, recover_force_field.TRUTH
    for name, fitted in result["fitted"].items():
        assert np.max(np.abs(guess[name] / truth[name] - 1)) > 0.1
        np.testing.assert_allclose(fitted, truth[name], rtol=0.02, err_msg=name)
        assert np.all(result["errors"][name] < 0.02 * fitted)
    assert result["losses"][-1] < 1e-4 * result["losses"][0]
    report = result["report"]
    assert report.horizon == 40 and np.all(report.difference < 1e-10)
    assert report.numerical < 1e-4
    assert (tmp_path / "force_field.png").stat().st_size > 0
