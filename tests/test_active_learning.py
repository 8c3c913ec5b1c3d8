"""The example of learning on the fly, small and short."""

import importlib.util

import numpy as np
import pytest


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # of ASE
@pytest.mark.skipif(
    importlib.util.find_spec("tblite") is None,
    reason="tblite (`jax-md[xtb]`) has wheels for Linux on x86-64 up to Python 3.13",
)
def test_labels_come_where_the_fit_is_unsure(tmp_path):
    from examples import active_learning

    found = active_learning.main(smoke=True, output=tmp_path)
    novel = np.array(found["novelty"])
    times = np.array(found["time"])
    # Whatever was too new was labelled while there were labels, and nothing else.
    expected = times[novel > active_learning.THRESHOLD][:3]
    assert times[-1] >= 0.1
    np.testing.assert_array_equal([t for t, _ in found["labelled"]], expected)
    assert found["labels"] == [3, 4, 5, 6]
    assert len(found["error"]) == 4
    assert found["error"][-1][1] < found["error"][0][1] < found["spread"]
    assert found["trajectory error"][1] < 0.6 * found["spread"]
    assert 0.1 < found["calibration"] < 3
    assert (tmp_path / "active_learning.png").stat().st_size > 0
