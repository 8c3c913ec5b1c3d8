import jax
import pytest


@pytest.fixture(autouse=True)
def _strict():
    """Kernels are held to many digits, and shapes must match without promotion."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield
