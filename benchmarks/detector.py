"""The whole detector against its plain formulation and the physical limit: one command, one table.

    python benchmarks/detector.py                       # CPU; add --device cuda on a machine with a GPU
    python benchmarks/detector.py --preset sim-tiny --length 5 --repeats 3

The plain formulation is benchmarks/plain.py. The limit is the matrix products, convolutions and attention kernels
that ours runs, by themselves, on buffers that are there already. A training step is forward, loss and backward, for
L frames of batch 1 with four labelled ones. Streaming is one frame of batch 1 with its state, network only: ours as
`StreamingDetector` runs it. Times are the best of interleaved rounds. Peak memory is that of a training step above
what the process held before, each in a process of its own.
"""

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain import plain_like
from scan import best_ms, status_kb
from torch.utils._python_dispatch import TorchDispatchMode

from ssmbook.detector import PRESETS, Detector

Run = Callable[[], object]
KINDS = ("plain", "ours", "checkpointing")  # the last is ours with checkpointing=True
HEAVY = ("mm", "addmm", "bmm", "baddbmm", "convolution", "scaled_dot_product", "linear")  # of the limit


def network(preset: str, device: str, **options: Any) -> Detector:
    """A detector whose attention counts, with starting weights."""
    torch.manual_seed(0)
    model = Detector(**PRESETS[preset], **options).to(device)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def chunk(model: Detector, L: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sparse counts [L, 1, C, H, W], four labelled frames [4, 2], and targets [4, 3, 5]."""
    torch.manual_seed(1)
    H, W = model.input_hw
    shape = L, 1, model.in_channels, H, W
    x = (torch.rand(shape) < 0.05) * torch.randint(1, 10, shape)
    frames = torch.stack([torch.linspace(0, L - 1, 4).long(), torch.zeros(4, dtype=torch.long)], -1)
    centre, size = torch.rand(4, 3, 2) * torch.tensor([W, H]), 12 + 40 * torch.rand(4, 3, 2)
    targets = torch.cat([torch.randint(0, 2, (4, 3, 1)), centre, size], -1)
    return x.to(torch.uint8).to(device), frames.to(device), targets.to(device)


def ours_training(model: Detector, L: int, device: str) -> Run:
    x, frames, targets = chunk(model, L, device)

    def run() -> None:
        features, _ = model.features(x, frames=frames)
        model.loss(features, targets)["loss"].backward()
        model.zero_grad(set_to_none=True)

    return run


def plain_training(model: Detector, L: int, device: str) -> Run:
    x, frames, targets = chunk(model, L, device)
    plain = plain_like(model)
    step, slot = frames.unbind(-1)

    def run() -> None:
        maps, _ = plain.features(x)
        plain.loss({i: m[step, slot] for i, m in maps.items()}, targets)["loss"].backward()
        plain.zero_grad(set_to_none=True)

    return run


def training_of(kind: str, preset: str, L: int, device: str) -> Run:
    model = network(preset, device, checkpointing=kind == "checkpointing")
    return (plain_training if kind == "plain" else ours_training)(model, L, device)


def streaming_of(kind: str, preset: str, device: str) -> Run:
    from ssmbook.experiment.stream import NetworkStep

    model = network(preset, device).eval()
    frame = chunk(model, 1, device)[0]
    if kind == "ours":
        step = NetworkStep(model, model.input_hw)
        return lambda: step(frame[0, 0])
    plain = plain_like(model)
    states: list = [None]

    @torch.no_grad()
    def run() -> torch.Tensor:
        maps, states[0] = plain.features(frame, states[0])
        return plain.predict(maps)

    return run


def backbone_of(kind: str, preset: str, L: int, device: str) -> Run:
    model = network(preset, device).eval()
    x = chunk(model, L, device)[0]
    run = model if kind == "ours" else plain_like(model)
    return torch.no_grad()(lambda: run.features(x))


class _Record(TorchDispatchMode):
    """Notes the heavy operations that run, with what they are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::").lstrip("_")
        if name.startswith(HEAVY) and "meta" not in name:
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)


def limit_of(run: Run) -> Run:
    """The heavy operations of a run by themselves, on random buffers of the same shapes and strides."""
    with _Record() as record:
        run()
    buffers: dict[tuple, torch.Tensor] = {}

    def stand_in(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not value.is_floating_point() or value.numel() < 2:
            return value  # seeds and offsets of attention kernels
        key = tuple(value.shape), value.stride(), value.dtype
        if key not in buffers:
            size = (torch.tensor(value.stride()) * (torch.tensor(value.shape) - 1)).sum() + 1
            flat = torch.randn(int(size), device=value.device).to(value.dtype)
            buffers[key] = flat.as_strided(value.shape, value.stride())
        return buffers[key]

    with torch.no_grad():
        calls = [
            (f, tuple(map(stand_in, args)), {k: stand_in(v) for k, v in kwargs.items()})
            for f, args, kwargs in record.calls
        ]
    record.calls.clear()

    @torch.no_grad()
    def heavy() -> None:
        for f, args, kwargs in calls:
            f(*args, **kwargs)

    return heavy


def peak_mb(kind: str, preset: str, L: int, device: str) -> float:
    """Peak memory of a training step above what was held before it; run in a process of its own."""
    training_of(kind, "sim-smoke", 4, device)()  # loads libraries and compiles
    run = training_of(kind, preset, L, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present size
    before = status_kb("VmRSS")
    run()
    return (status_kb("VmHWM") - before) / 1e3


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def measure(
    device: str = "cpu",
    *,
    preset: str = "gen1-small",
    length: int = 21,
    repeats: int = 5,
    memory: bool = True,
) -> list[dict[str, Any]]:
    """The rows of the table: name, plain, ours, limit (ms, or MB), and the ratio plain / ours."""
    rows = []
    cases: list[tuple[str, Callable[[str], Run], tuple[str, ...], int]] = [
        (
            f"training step, L = {length}",
            lambda kind: training_of(kind, preset, length, device),
            KINDS,
            repeats,
        ),
        ("streaming, one frame", lambda kind: streaming_of(kind, preset, device), KINDS[:2], 10 * repeats),
        (
            f"backbone, L = {length}",
            lambda kind: backbone_of(kind, preset, length, device),
            KINDS[:2],
            repeats,
        ),
    ]
    for name, make, kinds, rounds in cases:
        rows.append({"row": f"{name}, fp32", **compare(make, kinds, rounds, device, False)})
        print_row(rows[-1])
        label = f"{name}, bf16"
        if has_bf16(device):
            rows.append({"row": label, **compare(make, kinds, rounds, device, True)})
            print_row(rows[-1])
        else:
            rows.append({"row": label, "not measured": "the device has no bfloat16 products"})
            print(f"{label:32} not measured: {rows[-1]['not measured']}")
    if memory:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = {kind: pool.apply(peak_mb, (kind, preset, length, device)) for kind in KINDS}
        for kind in KINDS[1:]:
            rows.append({"row": f"peak memory, MB, {kind}", "plain": peaks["plain"], "ours": peaks[kind]})
            rows[-1]["ratio"] = peaks["plain"] / peaks[kind]
            print_row(rows[-1])
    return rows


def compare(
    make: Callable[[str], Run], kinds: tuple[str, ...], rounds: int, device: str, bf16: bool
) -> dict[str, float]:
    """Best times in ms. With ``bf16`` ours runs under autocast; the plain one always runs in fp32."""

    # Without autocast's cache: a CUDA graph would keep it beyond its life.
    def cast(call: Run) -> Run:
        return torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=False)(call)

    runs = {kind: cast(cast(make)(kind)) for kind in kinds if kind != "plain"}
    runs["limit"] = limit_of(runs["ours"])
    runs["plain"] = make("plain")
    times = best_ms(runs, rounds, device)
    return {**times, "ratio": times["plain"] / times["ours"]}


def print_row(row: dict[str, Any]) -> None:
    values = "".join(f"{row[key]:11.1f}" if key in row else 11 * " " for key in ("plain", "ours", "limit"))
    print(f"{row['row']:32}{values}{row['ratio']:8.2f}×", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="gen1-small")
    parser.add_argument("--length", type=int, default=21, help="frames of a training chunk (default: 21)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="rounds, of which the best counts (default: 5)"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--out", type=Path, help="also write the results to this json file")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}, {options.preset}: ms"
    )
    print(f"{'':32}{'plain':>11}{'ours':>11}{'limit':>11}{'ratio':>9}")
    rows = measure(
        options.device,
        preset=options.preset,
        length=options.length,
        repeats=options.repeats,
        memory=not options.no_memory,
    )
    if options.out:
        machine = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
        record = {"device": machine, "torch": torch.__version__, "threads": torch.get_num_threads()}
        record["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        options.out.write_text(
            json.dumps({**record, "preset": options.preset, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
