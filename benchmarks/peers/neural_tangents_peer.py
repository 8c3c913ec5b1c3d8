"""Kernels of wide networks through the interface of neural-tangents.

Run in neural-tangents' environment this measures neural-tangents; run with this project
on the path it measures `jax_md.wide`, since the same calls work in both.

Networks have ReLU layers, `W_std` 1.5 and `b_std` 0.05, of width 512, on images 8 x 8:

* ``fcn``: `depth` hidden layers on the 64 pixels.
* ``flatten``: `depth` convolutions 3 x 3, the pixels flattened.
* ``pool``: `depth` convolutions 3 x 3, the mean over pixels.
"""

import importlib.metadata
import time

import jax
import jax.numpy as jnp
import numpy as np
from protocol import call_memory, peak_memory, serve

try:
    import neural_tangents as nt  # pyright: ignore[reportMissingImports]
    from neural_tangents import stax  # pyright: ignore[reportMissingImports]

    VERSION = importlib.metadata.version("neural-tangents")
except ImportError:
    from jax_md import wide as nt
    from jax_md.wide import stax

    VERSION = "this project"

GET = ("nngp", "ntk")
problems: dict = {}
# What they gave last.
kernels: dict = {}
# The same kernels by other means, to compare with.
references: dict = {}


def network(kind: str, depth: int):
    """Return the kernel function of a network."""
    hidden = []
    for _ in range(depth):
        if kind == "fcn":
            hidden.append(stax.Dense(512, W_std=1.5, b_std=0.05))
        else:
            conv = stax.Conv(512, (3, 3), padding="SAME", W_std=1.5, b_std=0.05)
            hidden.append(conv)
        hidden.append(stax.Relu())
    if kind == "fcn":
        return stax.serial(stax.Flatten(), *hidden, stax.Dense(1))[2]
    pool = stax.GlobalAvgPool() if kind == "pool" else stax.Flatten()
    return stax.serial(*hidden, pool, stax.Dense(1))[2]


def info() -> dict:
    return {"version": VERSION, "jax": jax.__version__, "devices": len(jax.devices())}


def prepare(
    name: str,
    images: str,
    n1: int,
    n2: int | None,
    kind: str,
    depth: int,
    block: int,
    devices: int = 0,
    warm: int = 0,
) -> dict:
    """Compile the kernel of ``n1`` images with themselves, or with ``n2`` others.

    A positive ``block`` goes through `batch`, with so many ``devices``; a positive
    ``warm`` compiles its blocks with so many images only. Where there are not enough
    images, mirror images follow.
    """
    data = np.load(images)["images"][..., None] / 16
    data = np.concatenate([data, data[:, :, ::-1]])
    kernel_fn = network(kind, depth)
    x1 = jnp.asarray(data[:n1], jnp.float32)
    x2 = None if n2 is None else jnp.asarray(data[n1 : n1 + n2], jnp.float32)

    def blocks(devices):
        batched = nt.batch(kernel_fn, batch_size=block, device_count=devices)
        return lambda n=None: jax.block_until_ready(
            tuple(batched(x1[:n], None if x2 is None else x2[:n], GET))
        )

    if block:
        problems[name], references[name] = blocks(devices), blocks(0)
    else:
        compiled = jax.jit(lambda a, b: tuple(kernel_fn(a, b, GET)))
        problems[name] = lambda: jax.block_until_ready(compiled(x1, x2))
    start = time.perf_counter()
    kernels[name] = problems[name](warm) if warm else problems[name]()
    return {"first_call_s": time.perf_counter() - start}


def run(name: str) -> dict:
    start, work = time.perf_counter(), time.process_time()
    kernels[name] = problems[name]()
    return {
        "seconds": time.perf_counter() - start,
        "work_s": time.process_time() - work,
    }


def samples(name: str) -> dict:
    """Return some entries of the kernels, to compare with those of another engine."""
    return {"samples": [np.asarray(k[:3, -3:], float).tolist() for k in kernels[name]]}


def process(name: str) -> dict:
    """Return the peak of the process so far."""
    return {"process_bytes": peak_memory(), "call_bytes": None}


def compare(name: str) -> dict:
    """Return the largest relative difference from `batch` on one device."""
    pairs = zip(problems[name](), references[name](), strict=True)
    gaps = [np.max(np.abs(np.asarray(a) / np.asarray(b) - 1)) for a, b in pairs]
    return {"gap": float(max(gaps))}


def memory(name: str) -> dict:
    """Measure what one call of a compiled kernel needs, its results included."""
    kernels.clear()
    process = peak_memory()
    return {"process_bytes": process, "call_bytes": call_memory(problems[name])}


if __name__ == "__main__":
    serve(
        {
            "info": info,
            "prepare": prepare,
            "run": run,
            "samples": samples,
            "memory": memory,
            "process": process,
            "compare": compare,
        }
    )
