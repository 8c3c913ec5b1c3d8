"""The learning curves of the example: errors fall, and where they start from."""

import numpy as np
import pytest

from examples import kernel_learning_curve


@pytest.mark.slow
@pytest.mark.extra
def test_learning_curves(tmp_path):
    curves = kernel_learning_curve.main(smoke=True, output=tmp_path)
    assert (tmp_path / "learning_curve.png").stat().st_size > 0
    for system, errors in curves.items():
        for name in kernel_learning_curve.KERNELS:
            few, more = np.array(errors[name])
            assert more[1] < few[1] < 0.5 * errors["spread"][1], (system, name)
            assert more[0] < 0.5 * errors["spread"][0], (system, name)
