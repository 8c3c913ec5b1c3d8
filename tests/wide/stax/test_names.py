"""Names, parameters and defaults that scripts for neural-tangents rely on."""

import inspect

import pytest

from jax_md import wide as nt
from jax_md.wide import stax

ROOT = {
    "batch": "kernel_fn batch_size=0 device_count=-1 store_on_device=True",
    "empirical_kernel_fn": "f trace_axes=(-1,) diagonal_axes=() vmap_axes=None",
    "empirical_nngp_fn": "f trace_axes=(-1,) diagonal_axes=()",
    "empirical_ntk_fn": "f trace_axes=(-1,) diagonal_axes=() vmap_axes=None",
    "empirical_ntk_vp_fn": "f x1 x2 params",
    "linearize": "f params",
    "taylor_expand": "f params degree",
    "monte_carlo_kernel_fn": "init_fn apply_fn key n_samples batch_size=0",
}
AFFINE = "W_std=1.0 b_std=None"
AXES = "batch_axis=0 channel_axis=-1"
CONV = (
    f"out_chan filter_shape strides=None padding='VALID' {AFFINE} "
    "dimension_numbers=None parameterization='ntk' s=(1, 1)"
)
STAX = {
    "serial": "",
    "parallel": "",
    "repeat": "layer n",
    "Dense": f"out_dim {AFFINE} {AXES} parameterization='ntk' s=(1, 1)",
    "Conv": CONV,
    "ConvTranspose": CONV,
    "ConvLocal": CONV,
    "AvgPool": "window_shape strides=None padding='VALID' normalize_edges=False "
    f"{AXES}",
    "SumPool": f"window_shape strides=None padding='VALID' {AXES}",
    "GlobalAvgPool": AXES,
    "GlobalSumPool": AXES,
    "Flatten": "batch_axis=0 batch_axis_out=0",
    "Identity": "",
    "DotGeneral": "lhs=None rhs=None dimension_numbers=(((), ()), ((), ())) "
    f"precision=None {AXES}",
    "Aggregate": f"aggregate_axis=None {AXES} to_dense implementation='DENSE'",
    "LayerNorm": f"axis=-1 eps=1e-12 {AXES}",
    "Dropout": "rate mode='train'",
    "ImageResize": f"shape method antialias=True precision {AXES}",
    "Index": f"idx {AXES}",
    "FanOut": "num",
    "FanInSum": "",
    "FanInProd": "",
    "FanInConcat": "axis=-1",
    "GlobalSelfAttention": "n_chan_out n_chan_key n_chan_val n_heads "
    "linear_scaling=True W_key_std=1.0 W_value_std=1.0 W_query_std=1.0 W_out_std=1.0 "
    "b_std=None attention_mechanism='SOFTMAX' pos_emb_type='NONE' pos_emb_p_norm=2 "
    "pos_emb_decay_fn=None n_chan_pos_emb=None W_pos_emb_std=1.0 val_pos_emb=False "
    f"{AXES}",
    "ABRelu": "a b do_stabilize=False",
    "Relu": "do_stabilize=False",
    "LeakyRelu": "alpha do_stabilize=False",
    "Abs": "do_stabilize=False",
    "Sign": "",
    "RectifiedMonomial": "degree",
    "Erf": "a=1.0 b=1.0 c=0.0",
    "Sigmoid_like": "",
    "Gelu": "approximate=False",
    "Sin": "a=1.0 b=1.0 c=0.0",
    "Cos": "a=1.0 b=1.0 c=0.0",
    "Rbf": "gamma=1.0",
    "Gaussian": "a=1.0 b=-1.0",
    "Exp": "a=1.0 b=1.0",
    "Gabor": "",
    "Monomial": "degree",
    "Polynomial": "coef",
    "Hermite": "degree",
    "ExpNormalized": "gamma=1.0 shift=-1.0 do_clip=False",
    "Elementwise": "fn=None nngp_fn=None d_nngp_fn=None",
    "ElementwiseNumerical": "fn deg df=None",
    "layer": "layer_fn",
    "supports_masking": "remask_kernel",
    "unmask_fn": "fn",
    "requires": "",
}
ENUMS = {
    "Padding": {"CIRCULAR", "SAME", "VALID"},
    "PositionalEmbedding": {"NONE", "SUM", "CONCAT"},
    "AttentionMechanism": {"SOFTMAX", "IDENTITY", "ABS", "RELU"},
    "AggregateImplementation": {"DENSE", "SPARSE"},
    "Bool": {"NO", "MAYBE", "YES"},
}


@pytest.mark.parametrize(
    "module,names", [(nt, ROOT), (stax, STAX)], ids=["wide", "stax"]
)
def test_signatures(module, names):
    for name, wanted in names.items():
        function = getattr(module, name)
        assert function.__doc__, name
        found = inspect.signature(function).parameters.values()
        found = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        defaults = {
            p.name: None if p.default is p.empty else repr(p.default) for p in found
        }
        position = -1
        for entry in _split(wanted):
            key, _, default = entry.partition("=")
            assert key in defaults, (name, key)
            at = list(defaults).index(key)
            assert at > position, (name, key)  # the order is part of the interface
            position = at
            if default:
                assert defaults[key] == default, (name, key)


def _split(text):
    """Split at spaces outside brackets."""
    out, depth = [""], 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == " " and depth == 0:
            out.append("")
        else:
            out[-1] += c
    return [entry for entry in out if entry]


def test_enums_and_records():
    for name, members in ENUMS.items():
        assert {m.name for m in getattr(stax, name)} == members
    assert stax.Slice[1:, ..., 0] == (slice(1, None), Ellipsis, 0)
    assert stax.Diagonal() == (stax.Bool.YES, stax.Bool.NO)
    assert callable(nt.batch) and callable(nt.linearize)
    assert nt.predict and nt.meanfield and nt.init
    fields = set(inspect.signature(nt.Kernel).parameters)
    assert fields == {
        "nngp", "ntk", "cov1", "cov2", "x1_is_x2", "is_gaussian", "is_reversed",
        "is_input", "diagonal_batch", "diagonal_spatial", "shape1", "shape2",
        "batch_axis", "channel_axis", "mask1", "mask2",
    }  # fmt: skip


def test_tensorflow_helpers_are_not_carried():
    with pytest.raises(AttributeError, match="TensorFlow functions"):
        getattr(nt, "experimental")  # noqa: B009
    with pytest.raises(AttributeError, match="no attribute 'kernels'"):
        getattr(nt, "kernels")  # noqa: B009
