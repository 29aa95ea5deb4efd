"""Everything that wants a GPU, in one run: kernels against the oracle, then the tables of the other benchmarks.

    PYTHONPATH=. python benchmarks/gpu.py --out benchmarks/results

It needs torch, numpy and numba. Parts whose packages are missing are named in the result. The exit status is 1
if a kernel disagrees with the oracle: then no timing counts.
"""

import argparse
import itertools
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import scan
import torch

from ssmbook.ssm.scan import from_planes, scan_loop, scan_planes, to_planes

KERNEL_SHAPES = [(1, 1, 1), (3, 2, 5), (7, 33, 40), (2, 300, 65), (64, 21, 48)]
TRANSITIONS = ("shared", "per sequence", "per step")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}  # of the largest value


def check_kernels(device: str, shapes: list[tuple[int, int, int]] = KERNEL_SHAPES) -> list[dict[str, Any]]:
    """The device's scan against the loop in float64, forward and gradients: the largest relative differences."""
    rows = []
    cases = itertools.product(shapes, TRANSITIONS, (False, True), (False, True), TOLERANCE)
    for shape, kind, time_major, reverse, dtype in cases:
        torch.manual_seed(0)
        N, L, P = shape
        a_shape = {"shared": (P,), "per sequence": (N, 1, P), "per step": (N, L, P)}[kind]
        sizes = a_shape, (N, L, P), (N, P), (N, L, P)
        a, b, x0, dx = (torch.randn(*size, dtype=torch.complex128, device=device) for size in sizes)
        a = 0.95 * a / a.abs().clamp(min=1)
        expected = with_gradients(lambda a, b, x0, r=reverse: scan_loop(a, b, x0, r), (a, b, x0), dx)
        got = with_gradients(planes_scan(dtype, time_major, reverse), (a, b, x0), dx)
        worst = max(float((g - e).abs().max() / e.abs().max()) for g, e in zip(got, expected, strict=True))
        rows.append(
            {
                "shape": shape,
                "transition": kind,
                "time_major": time_major,
                "reverse": reverse,
                "dtype": str(dtype),
            }
            | {"difference": worst, "passes": worst <= TOLERANCE[dtype]}
        )
    return rows


def planes_scan(dtype: torch.dtype, time_major: bool, reverse: bool):
    """The backend for this device as a function of complex128 tensors, computing in ``dtype``."""

    def run(a: torch.Tensor, b: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        b = to_planes(b).to(dtype)
        if time_major:
            b = b.transpose(0, 1).contiguous().transpose(0, 1)
        x = scan_planes(to_planes(a).to(dtype), b, x0.to(dtype.to_complex()), reverse)
        return from_planes(x).to(torch.complex128)

    return run


def with_gradients(run, arguments: tuple[torch.Tensor, ...], dx: torch.Tensor) -> list[torch.Tensor]:
    """What ``run`` returns, and its gradients for the arguments."""
    arguments = tuple(x.detach().requires_grad_() for x in arguments)
    x = run(*arguments)
    return [x.detach(), *torch.autograd.grad(x, arguments, dx, materialize_grads=True)]


def scan_table(device: str, repeats: int) -> dict[str, Any]:
    """The table of benchmarks/scan.py."""
    table = []
    for shape in scan.SHAPES:
        results = scan.measure_shape(shape, repeats, True, device)
        scan.print_shape(shape, results)
        table.append({"shape": shape, "layers": results})
    steps = []
    for pixels, width in scan.PIXELS:
        steps.append(
            {"pixels": pixels, "width": width, "ms": scan.measure_step(pixels, width, repeats, device)}
        )
    return {"table": table, "steps": steps}


def circumstances(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument(
        "--repeats", type=int, default=20, help="rounds, of which the best counts (default: 20)"
    )
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU; benchmarks/scan.py measures the CPU")
    result = circumstances("cuda")
    options.out.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        (options.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")

    result["kernels"] = check_kernels("cuda")
    failed = [row for row in result["kernels"] if not row["passes"]]
    print(
        f"kernels: {len(result['kernels']) - len(failed)} of {len(result['kernels'])} cases agree with the oracle"
    )
    for row in failed:
        print(f"  differs: {row}")
    keep()
    for name, measure in {"scan": scan_table}.items():
        try:
            result[name] = measure("cuda", options.repeats)
        except ImportError as error:
            result[name] = {"not measured": str(error)}
        keep()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
