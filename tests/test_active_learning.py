"""The example of learning on the fly, small and short."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.energy import kernel_potential as kp

pytestmark = [
    pytest.mark.extra,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning"),  # ASE's
    pytest.mark.skipif(
        importlib.util.find_spec("tblite") is None,
        reason="tblite (`jax-md[xtb]`) has wheels for Linux on x86-64 up to Python "
        "3.13",
    ),
]


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_labels_come_where_forces_are_unsure(bias, tmp_path):
    from examples import active_learning

    found = active_learning.main(smoke=True, output=tmp_path, bias=bias)
    unsure = np.array(found["uncertainty"]) > active_learning.TOLERANCE
    asked = np.array(found["time"])[unsure]
    # Whatever was too unsure was labelled, and nothing else; then the run ended.
    times = [t for t, _ in found["labelled"]]
    np.testing.assert_array_equal(times, asked[:3])
    assert len(asked) == 4 or found["time"][-1] >= 0.05
    assert found["labels"][:-1] == list(range(3, 4 + len(times)))
    errors = [force for _, force in found["error"]]
    assert len(errors) == len(found["labels"])
    assert errors[-1] < 0.8 * errors[0] < 0.5 * found["spread"]
    assert found["trajectory error"][1] < 0.4 * found["spread"]
    # Forces are wrong by about as much as was expected before they were known.
    assert 0.4 < np.sqrt(np.mean(np.square(found["surprise"]))) < 2.5
    assert 0.4 < found["calibration"] < 2.5
    assert (tmp_path / "active_learning.png").stat().st_size > 0


def test_room_for_labels_changes_no_fit():
    from examples import active_learning

    oracle = active_learning.Oracle()
    start = oracle.start
    shaken = start + 0.05 * jax.random.normal(jax.random.key(0), (6, *start.shape))
    labels = [oracle.label(R) for R in (start, shaken[0])]
    learn = active_learning.Learner(shaken, oracle.species, labels[0], 3)
    fit = learn(labels, 0.01)
    noise = tuple(0.01 * active_learning.NOISE)
    training = kp.prepare(
        learn.descriptor_fn, labels, standardize=learn.scale, reference=learn.zero
    )
    plain = kp.fit(
        learn.kernel, learn.descriptor_fn, kp.independent(training), noise=noise
    )
    for make in (kp.energy_fn, kp.force_variance_fn):
        f = jax.jit(make(plain, species=oracle.species))
        a, b = (f(shaken[1], potential=p) for p in (plain, fit.potential))
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_evidence_is_the_likelihood_at_the_best_scale():
    from examples import active_learning

    oracle = active_learning.Oracle()
    start = oracle.start
    shaken = start + 0.05 * jax.random.normal(jax.random.key(0), (6, *start.shape))
    labels = [oracle.label(R) for R in shaken[:4]]
    learn = active_learning.Learner(shaken, oracle.species, labels[0], len(labels))
    training = kp.prepare(
        learn.descriptor_fn, labels, standardize=learn.scale, reference=learn.zero
    )

    def evidence(log_scale, ratio):
        scale = jnp.exp(log_scale)
        kernel = kp.network(learn.kernel.kernel_fn, "nngp", variance=scale**2)
        noise = tuple(ratio * scale * active_learning.NOISE)
        return kp.log_marginal_likelihood(kernel, training, noise)

    ratios = np.array([1e-2, 1e-1])
    own, best = [], []
    for ratio in ratios:
        value, fit = learn.fit(kp.independent(training), len(labels), ratio)
        own.append(value)
        rise = jax.jit(jax.value_and_grad(evidence))
        value, slope = rise(np.log(float(fit.signal)), ratio)
        best.append(value)
        # The scale of the kernel is that which makes the labels most likely.
        assert abs(slope) < 1e-3
    # Jitter leaves a little.
    np.testing.assert_allclose(np.diff(own), np.diff(best), atol=0.01)
