"""Guards against JAX releases that are known to compute wrong numbers or to break."""

import warnings

import jax

# Release -> what is wrong with it. `pyproject.toml` excludes the same ones; this check
# is for environments put together without the resolver.
BROKEN_JAX = {
    "0.10.2": "it miscompiles on CPU (jax-ml/jax#39103)",
    "0.11.1": "it breaks flax 0.12.8",
}


def warn_if_broken_jax(version: str = jax.__version__) -> None:
    """Warn when `version` is a JAX release in `BROKEN_JAX`."""
    if version in BROKEN_JAX:
        warnings.warn(
            f"JAX {version} is installed, but {BROKEN_JAX[version]}. Install another "
            "release: pip install 'jax!=0.10.2,!=0.11.1'.",
            RuntimeWarning,
            stacklevel=3,
        )
