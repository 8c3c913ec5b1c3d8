"""Each example runs small and short, and its numbers are checked."""

import numpy as np
import pytest

from examples import quickstart, recover_force_field


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
