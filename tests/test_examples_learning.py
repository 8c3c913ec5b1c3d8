"""The examples that learn through estimators run short, and their numbers are checked.

Errors of averages are those that the examples report.
"""

import pytest

from examples import colloid_protocol

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
