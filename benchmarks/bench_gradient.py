"""What the gradient of a loss after 50 steps costs, in forward runs.

    python -m benchmarks.bench_gradient
    python -m benchmarks.bench_gradient --long   # up to 100,000 steps: `long_gradient`

The loss is the kinetic energy per atom after 50 steps of NVE; the gradient is that
with respect to epsilon and to all start positions, in reverse mode, and stands beside
central differences. JAX MD's own Lennard-Jones energy has no reverse gradient with
respect to epsilon (NaN), so it is also measured with a user's pair function.
"""

import sys

from benchmarks import cases, long_gradient, measure
from benchmarks.peers.client import Peer

FORMS = {
    "ours": [("builtin", "Dense"), ("own", "Dense")],
    "jax_md": [
        ("builtin", "OrderedSparse"),
        ("own", "OrderedSparse"),
        ("own", "Dense"),
    ],
}


def main() -> None:
    """Measure and print."""
    if "--long" in sys.argv:
        return long_gradient.main([x for x in sys.argv[1:] if x != "--long"])
    options = measure.arguments(__doc__, name="gradient", sizes=[4_000], steps=50)
    rows = []
    for n in options.sizes:
        case = cases.liquid(n)
        for name, forms in FORMS.items():
            if name in options.without:
                continue
            for form, layout in forms:
                # A fresh process each: what one form leaves behind slows the next.
                with Peer(name) as peer:
                    found = peer.ask(
                        "gradient",
                        form=form,
                        layout=layout,
                        steps=options.steps,
                        repeats=options.repeats,
                        **case,
                    )
                    facts = {**peer.info, "form": form, "layout": layout, "atoms": n}
                label = "jax_md" if name == "ours" else "JAX MD"
                found["ratio"] = found["gradient_s"] / found["forward_s"]
                rows.append({**facts, "engine": f"{label}, {form}, {layout}", **found})
                print(
                    f"{n:>8,} {rows[-1]['engine']:30} "
                    f"forward {found['forward_s']:7.3f} s, "
                    f"gradient {found['gradient_s']:7.3f} s, "
                    f"ratio {found['ratio']:5.2f}; "
                    f"d/depsilon {found['d_epsilon']:.5f} "
                    f"(difference {found['d_epsilon_difference']:.5f}), "
                    f"along dR {found['d_position']:.5f} "
                    f"(difference {found['d_position_difference']:.5f})"
                )
        measure.save(options.name, rows, steps=options.steps)


if __name__ == "__main__":
    main()
