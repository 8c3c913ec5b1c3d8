"""The example of wide networks, with few of them."""

import pytest


@pytest.mark.extra
@pytest.mark.slow
def test_networks_follow_their_limit(tmp_path):
    from examples import wide_networks

    found = wide_networks.main(smoke=True, output=tmp_path)
    ordered, critical, chaotic = (
        found["condition"][phase] for phase in ("ordered", "critical", "chaotic")
    )
    assert ordered[-1] > 1e6
    # Eight inputs: (8 + 2) / 2 in the limit of depth at criticality, one in chaos.
    assert critical[-1] == pytest.approx(5, rel=0.1)
    assert chaotic[-1] == pytest.approx(1, rel=1e-3)
    assert found["standard errors"] < 2.5
    assert 0.4 < found["variance ratio"] < 2
    assert (tmp_path / "wide_networks.png").stat().st_size > 0
