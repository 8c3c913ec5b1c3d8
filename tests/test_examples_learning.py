"""The examples that learn through estimators run short, and their numbers are checked.

Errors of averages are those that the examples report.
"""

import numpy as np
import pytest

from examples import colloid_protocol, rdf_fit, self_assembly

SIGMAS = 4


def mean_work(protocol):
    """The scheme is linear, so its mean is what it does without noise."""
    x, old, done, e = 0.0, 0.0, 0.0, colloid_protocol
    for new in protocol:
        done += e.STIFFNESS * ((x - new) ** 2 - (x - old) ** 2) / 2
        x += e.DT * e.STIFFNESS / e.FRICTION * (new - x)
        old = new
    return done + e.STIFFNESS * ((x - e.DISTANCE) ** 2 - (x - old) ** 2) / 2


def test_the_protocol_falls_to_the_optimum(tmp_path):
    found = colloid_protocol.main(smoke=True, output=tmp_path)
    optimum, error = found["optimum"], found["error"]
    assert optimum == pytest.approx(2.0**2 / 4)  # k L^2 / (2 + k T / z)
    for when, protocol in (("work before", "start"), ("work", "protocol")):
        expected = mean_work(found[protocol])
        assert found[when] == pytest.approx(expected, abs=SIGMAS * error), when
    assert error < 0.02
    assert mean_work(found["start"]) > 1.1 * optimum
    # The time step shifts the optimum itself by less than a percent.
    assert mean_work(found["protocol"]) == pytest.approx(optimum, rel=0.015)
    for jump in (found["first jump"], found["last jump"]):
        assert jump == pytest.approx(found["jump of the optimum"], abs=0.1)
    assert found["jarzynski"] == pytest.approx(1, abs=0.08)
    assert found["works"][0][1] > found["works"][5][1] + 0.05
    assert (tmp_path / "protocol.png").stat().st_size > 0


@pytest.mark.slow
def test_clusters_form_at_the_wanted_rate(tmp_path):
    found = self_assembly.main(smoke=True, output=tmp_path)
    error = np.hypot(found["score error"], found["difference error"])
    assert found["score gradient"] == pytest.approx(
        found["difference"], abs=SIGMAS * error
    )
    assert found["score gradient"] > 3 * found["score error"]
    assert found["pathwise gradient"] == 0  # yes or no has no derivative
    assert found["error"] < 0.04
    assert found["rate before"] < 0.5
    # A step of the descent moves by the noise of the gradient, too.
    assert found["rate"] == pytest.approx(found["target"], abs=0.15)
    assert (tmp_path / "assembly.png").stat().st_size > 0


@pytest.mark.slow
def test_both_ways_find_the_potential_of_a_radial_distribution(tmp_path):
    found = rdf_fit.main(smoke=True, output=tmp_path)
    assert found["start loss"] > 0.05
    assert np.max(found["target"]) == pytest.approx(2.1, abs=0.1)
    assert found["target"][-1] == pytest.approx(1, abs=0.05)
    for name in ("reweighting", "trajectory"):
        fit = found[name]
        assert fit["loss"] < 0.003, name
        assert fit["sigma"] == pytest.approx(rdf_fit.TRUTH["sigma"], abs=0.03), name
        # Attraction shapes a dense fluid less than repulsion does.
        assert fit["epsilon"] == pytest.approx(rdf_fit.TRUTH["epsilon"], abs=0.35), name
    assert (tmp_path / "rdf.png").stat().st_size > 0
