"""Settings of every test: 64-bit types, a compilation cache, the `dtype` fixture."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_enable_x64", True)
# Compilation is most of the time of this suite, and its programs change little from
# one run to the next.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest):
    """Each floating-point type of positions in turn."""
    return request.param


# Folders whose programs run once or twice on a few numbers, so that compiling is the
# cost. The engine and the runs are tested as users compile them, and so is all slow.
HURRIED = {
    *("adjoint", "contract", "energy", "nn", "quantity", "smap", "space", "wide")
}


@pytest.fixture(autouse=True)
def _quick_compilation(request: pytest.FixtureRequest):
    folder = request.path.relative_to(ROOT / "tests").parts[0]
    hurry = folder in HURRIED and request.node.get_closest_marker("slow") is None
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", hurry)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
