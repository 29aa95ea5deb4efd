"""S5 against s5-pytorch, a JAX layer and the physical limit: one command, one table.

    python benchmarks/scan.py                       # CPU; add --device cuda on a machine with a GPU
    python benchmarks/scan.py --shapes 5120,21,48 --repeats 3 --no-memory
    python benchmarks/scan.py --growth growth.png   # time and memory over the length, instead of the table

The limit is what forward and backward cannot do without: six matrix products (B̄u, Cx and two gradients of each) and
two copies of the states. s5-pytorch and JAX take part where they are installed (pip install s5-pytorch "jax[cpu]").
Times are the best of several interleaved rounds. Peak memory is that of forward + backward above what the process
held before, each in a process of its own.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import Run, alone, best_ms, circumstances, peak_mb, write_results

SHAPES = [(5120, 21, 48), (1280, 21, 96), (320, 21, 192), (80, 21, 384), (8, 2048, 128), (1, 16384, 64)]
PIXELS = [
    (5120, 48),
    (1280, 96),
    (320, 192),
    (80, 384),
]  # one frame's pixels at each stage of Gen1, small model
GROWTH = [(1, 2**k, 64) for k in range(8, 15)]  # lengths 256 to 16,384


def inputs(N: int, L: int, H: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(N, L, H, device=device, requires_grad=True), torch.randn(N, L, H, device=device)


def runs_of(
    call: Callable[[torch.Tensor], torch.Tensor], u: torch.Tensor, dy: torch.Tensor, layer
) -> dict[str, Run]:
    """Forward without a graph, and forward + backward with gradients for the input and all parameters."""
    arguments = [u, *layer.parameters()]

    def forward():
        with torch.no_grad():
            return call(u)

    return {"forward": forward, "both": lambda: torch.autograd.grad(call(u), arguments, dy)}


def ours(N: int, L: int, H: int, device: str) -> dict[str, Run]:
    from ssmbook.ssm import S5

    layer = S5(H, H).to(device)
    u, dy = inputs(N, L, H, device)
    return runs_of(lambda u: layer(u)[0], u, dy, layer)


def ours_time_major(N: int, L: int, H: int, device: str) -> dict[str, Run]:
    """As the detector calls it: [L, N, H] in memory, handed over as a transposed view."""
    from ssmbook.ssm import S5

    layer = S5(H, H).to(device)
    u, dy = inputs(L, N, H, device)
    return runs_of(lambda u: layer(u.transpose(0, 1))[0].transpose(0, 1), u, dy, layer)


def s5_pytorch(N: int, L: int, H: int, device: str) -> dict[str, Run]:
    from s5 import S5

    layer = S5(H, H).to(device)
    u, dy = inputs(N, L, H, device)
    return runs_of(layer, u, dy, layer)


def jax_layer(N: int, L: int, H: int, device: str) -> dict[str, Run]:
    import jax
    import jax.numpy as jnp

    from ssmbook.ssm.s5 import published_start

    u, dy = (jnp.asarray(x.detach().cpu().numpy()) for x in inputs(N, L, H, "cpu"))
    parameters = {name: jnp.asarray(value.float().numpy()) for name, value in published_start(H, H).items()}

    def layer(parameters, u):
        Lambda, B, C = (
            parameters[name][..., 0] + 1j * parameters[name][..., 1] for name in ("Lambda", "B", "C")
        )
        half = jnp.exp(parameters["log_step"]) * Lambda / 2
        a, B_bar = (1 + half) / (1 - half), (2 * half / Lambda / (1 - half))[:, None] * B

        def combine(first, second):
            return second[0] * first[0], second[0] * first[1] + second[1]

        def sequence(u):  # [L, H]
            _, x = jax.lax.associative_scan(combine, (jnp.broadcast_to(a, (len(u), len(a))), u @ B_bar.T))
            return (x @ C.T).real + parameters["D"] * u

        return jax.vmap(sequence)(u)

    forward = jax.jit(layer)
    both = jax.jit(lambda parameters, u, dy: jax.vjp(layer, parameters, u)[1](dy))
    return {
        "forward": lambda: jax.block_until_ready(forward(parameters, u)),
        "both": lambda: jax.block_until_ready(both(parameters, u, dy)),
    }


def limit(N: int, L: int, H: int, device: str) -> dict[str, Run]:
    """Six matrix products of N·L × H × 2P and two copies of N·L × 2P reals, into buffers that are there already."""
    rows, P2 = N * L, 2 * H
    torch.manual_seed(0)
    u, y, du = (torch.randn(rows, H, device=device) for _ in range(3))
    x, g = (torch.randn(rows, P2, device=device) for _ in range(2))
    B, C = (torch.randn(H, P2, device=device) for _ in range(2))
    dB, dC = torch.empty_like(B), torch.empty_like(C)

    def forward():
        torch.mm(u, B, out=x)
        g.copy_(x)
        torch.mm(x, C.T, out=y)

    def both():
        forward()
        torch.mm(y, C, out=g)
        torch.mm(y.T, x, out=dC)
        x.copy_(g)
        torch.mm(u.T, g, out=dB)
        torch.mm(g, B.T, out=du)

    return {"forward": forward, "both": both}


LAYERS = {
    "limit": limit,
    "ours": ours,
    "ours, time-major": ours_time_major,
    "s5-pytorch": s5_pytorch,
    "JAX, jit": jax_layer,
}


def available(name: str, shape: tuple[int, int, int], device: str) -> dict[str, Run] | None:
    try:
        return LAYERS[name](*shape, device)
    except ImportError:
        return None


def peak_of(name: str, shape: tuple[int, int, int], device: str) -> float | None:
    """Peak memory of forward + backward, in MB."""
    if available(name, (1, shape[1], shape[2]), device) is None:
        return None
    available(name, (2, 3, shape[2]), device)["both"]()  # loads libraries and compiles
    return peak_mb(available(name, shape, device)["both"], device)


def measure_shape(
    shape: tuple[int, int, int], repeats: int, memory: bool, device: str
) -> dict[str, dict[str, float]]:
    """For each layer: forward, both (ms) and, if asked, memory (MB)."""
    runs = {}
    for name in LAYERS:
        for kind, run in (available(name, shape, device) or {}).items():
            runs[name, kind] = run
    times = best_ms(runs, repeats, device)
    results: dict[str, dict[str, float]] = {}
    for (name, kind), value in times.items():
        results.setdefault(name, {})[kind] = value
    if memory:
        for name in results.keys() - {"limit"}:
            results[name]["memory"] = alone(device, peak_of, name, shape, device)
    return results


def measure_step(pixels: int, width: int, repeats: int, device: str) -> dict[str, float]:
    """One step over one frame's pixels, ms: the S5 block against the ConvLSTM cell of the same width."""
    from ssmbook.detector.recurrences import ConvLSTM, StateSpaceBlock
    from ssmbook.ssm import S5

    u = torch.randn(1, pixels, width, device=device)
    runs = {}
    layer = S5(width, width)
    layer.freeze()
    for name, block in (("S5 block", StateSpaceBlock(layer, width)), ("ConvLSTM", ConvLSTM(width))):
        block = block.to(device).eval()
        with torch.no_grad():
            _, state = block(u)

        def run(block=block, state=state):
            with torch.no_grad():
                return block(u, state)

        runs[name] = run
    return best_ms(runs, 20 * repeats, device)


def measure_growth(repeats: int, device: str) -> list[dict[str, float]]:
    """Forward + backward of our layer over the length: ms and peak MB."""
    rows = []
    for shape in GROWTH:
        ms = best_ms({"both": ours(*shape, device)["both"]}, repeats, device)["both"]
        memory = alone(device, peak_of, "ours", shape, device)
        rows.append({"length": shape[1], "ms": ms, "memory": memory})
        print(f"  L = {shape[1]:6}: {ms:8.2f} ms {memory:8.1f} MB")
    return rows


def plot_growth(rows: list[dict[str, float]], path: Path) -> None:
    """Both over the length, beside straight lines through the last point."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
    for ax, key, unit in zip(axes, ("ms", "memory"), ("ms", "MB"), strict=True):
        lengths, values = [row["length"] for row in rows], [row[key] for row in rows]
        ax.plot(lengths, values, "o-", label="S5, forward + backward")
        line = [values[-1] * length / lengths[-1] for length in lengths]
        ax.plot(lengths, line, "--", color="grey", label="proportional to L")
        ax.set(xscale="log", yscale="log", xlabel="L (steps)", ylabel=unit)
    axes[0].legend(frameon=False)
    fig.savefig(path, dpi=150)


def print_shape(shape: tuple[int, int, int], results: dict[str, dict[str, float]]) -> None:
    print(f"\n{' × '.join(map(str, shape))}")
    reference = results["limit"]["both"]
    for name, values in results.items():
        memory = f"{values['memory']:8.0f} MB" if "memory" in values else ""
        share = f"{reference / values['both']:6.0%} of the limit"
        print(f"  {name:18}{values['forward']:9.2f}{values['both']:9.2f} ms {share}{memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="+", help="N,L,H (default: the six of the table)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--out", type=Path, help="also write the results to this json file")
    parser.add_argument("--growth", type=Path, help="draw time and memory over L, 256 to 16,384, as this png")
    options = parser.parse_args()
    if options.growth:
        rows = measure_growth(options.repeats, options.device)
        plot_growth(rows, options.growth)
        write_results(options.growth.with_suffix(".json"), rows)
        return
    shapes = [tuple(map(int, shape.split(","))) for shape in options.shapes] if options.shapes else SHAPES
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}: forward, forward + backward"
    )
    table = []
    for shape in shapes:
        results = measure_shape(shape, options.repeats, not options.no_memory, options.device)
        print_shape(shape, results)
        table.append({"shape": shape, "layers": results})
    print("\none step over one frame's pixels, ms")
    steps = []
    for pixels, width in PIXELS:
        times = measure_step(pixels, width, options.repeats, options.device)
        print(f"  {pixels} × {width}: " + ", ".join(f"{name} {value:.3f}" for name, value in times.items()))
        steps.append({"pixels": pixels, "width": width, "ms": times})
    if options.out:
        write_results(options.out, {**circumstances(options.device), "table": table, "steps": steps})


if __name__ == "__main__":
    main()
