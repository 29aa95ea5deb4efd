"""The whole detector against its plain formulation and the physical limit: one command, one table.

    python benchmarks/detector.py                       # CPU; add --device cuda on a machine with a GPU
    python benchmarks/detector.py --preset sim-tiny --length 5 --repeats 3

The plain formulation is `ssmbook.detector.plain`. The limit is the matrix products, convolutions and attention kernels
that ours runs, by themselves, on buffers that are there already. A training step is forward, loss and backward,
for L frames of batch 1 with four labelled ones; with burn-in 0–40, after the 20 frames of its past that are drawn
on average, against one without: a ratio above 1 is what it costs, and half of that in a mixed batch. Streaming is
one frame of batch 1 with its state, network only: ours as `StreamingDetector` runs it, on a GPU as a CUDA graph,
and there the limit is one too. Times are the best of interleaved rounds. Peak memory is that of three training steps
above what was held before, on a CPU each in a process of its own.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Run, alone, best_ms, circumstances, exact_float32, peak_mb, write_results
from torch.utils._python_dispatch import TorchDispatchMode

from ssmbook.allocation import memory_kept
from ssmbook.dataset import Batch
from ssmbook.dataset.sequences import Past
from ssmbook.detector import PRESETS, Detector, plain
from ssmbook.detector import plain_loss as objective
from ssmbook.errors import InputError
from ssmbook.live.step import NetworkStep, record_graph
from ssmbook.training.burn_in import run_past
from ssmbook.training.objective import TrainingStep
from ssmbook.training.settings import Training

KINDS = ("plain", "ours", "checkpointing")  # the last is ours with checkpointing=True
HEAVY = ("mm", "addmm", "bmm", "baddbmm", "convolution", "scaled_dot_product", "linear")  # of the limit


class Plain:
    """The plain formulation with a copy of a detector's weights, called as the detector is."""

    def __init__(self, model: Detector) -> None:
        self.model = copy.deepcopy(model)
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        self.p, self.config = plain.nested(tensors), model.config

    @property
    def backbone(self) -> torch.nn.Module:
        return self.model.backbone

    def features(self, x: torch.Tensor, states: Any = None, step_scale: float = 1.0) -> tuple[dict, list]:
        return plain.features(x, self.p, self.config, states, step_scale)

    def predict(self, maps: dict[int, torch.Tensor]) -> torch.Tensor:
        return plain.predict(maps, self.p, self.config)

    def loss(self, maps: dict[int, torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return objective.loss(maps, targets, self.p, self.config, self.model.training)


def network(preset: str, device: str, **options: Any) -> Detector:
    """A detector whose attention counts, with starting weights."""
    torch.manual_seed(0)
    model = Detector(**PRESETS[preset], **options).to(device)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def chunk(
    model: Detector, L: int, device: str, seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sparse counts [L, 1, C, H, W], four labelled frames [4, 2], and targets [4, 3, 5]."""
    torch.manual_seed(seed)
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
    other = Plain(model)
    step, slot = frames.unbind(-1)

    def run() -> None:
        maps, _ = other.features(x)
        other.loss({i: m[step, slot] for i, m in maps.items()}, targets)["loss"].backward()
        other.model.zero_grad(set_to_none=True)

    return run


def burn_in_training(model: Detector, L: int, past: int, device: str) -> Run:
    """A training step of random chunks of batch 1, each after ``past`` frames without gradient."""
    x, frames, targets = chunk(model, L, device)
    slots = Past(chunk(model, past, device)[0], [0], [past], torch.zeros(past, 1)) if past else None
    batch = Batch(x, targets, frames, torch.ones(1), [], torch.zeros(0), [""], torch.zeros(0), slots)
    step = TrainingStep(model, Training())

    def run() -> None:
        losses, _ = step(x, frames, targets, run_past(model, batch, None))
        losses["loss"].backward()
        model.zero_grad(set_to_none=True)

    return run


def training_of(kind: str, preset: str, L: int, device: str) -> Run:
    if kind == "limit":
        return limit_of(training_of("ours", preset, L, device), device)
    model = network(preset, device, checkpointing=kind == "checkpointing")
    return (plain_training if kind == "plain" else ours_training)(model, L, device)


def streaming_of(kind: str, preset: str, device: str) -> Run:
    model = network(preset, device).eval()
    frame = chunk(model, 1, device)[0]
    if kind == "plain":
        by_frame = plain_step(model)
        return lambda: by_frame(frame[0, 0])
    step = NetworkStep(model, model.input_hw)
    if kind == "limit":  # of what the graph is made of, operation by operation
        with torch.no_grad():
            states = step.run(frame, None)[1]
            return limit_of(lambda: step.run(frame, states), device, graph=device == "cuda")
    return lambda: step(frame[0, 0])


def exported_step(model: Detector) -> Run:
    """`streaming_of`'s frame through the network as `export_onnx` writes it, in onnxruntime with as many threads."""
    import onnxruntime

    from ssmbook.live.export import export_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the other kind runs by turns
    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(model, Path(folder) / "model.onnx", model.input_hw)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    frame, *names = (value.name for value in session.get_inputs())
    states = [np.zeros(value.shape, np.float32) for value in session.get_inputs()[1:]]
    counts = chunk(model, 1, "cpu")[0][0].numpy()

    def run() -> None:
        _, *states[:] = session.run(None, {frame: counts, **dict(zip(names, states, strict=True))})

    return run


def plain_step(model: Detector) -> Callable[[torch.Tensor], torch.Tensor]:
    """The plain formulation, frame after frame: counts [C, H, W] → predictions [A, 5 + classes]."""
    other = Plain(model)
    states: list = [None]

    @torch.no_grad()
    def step(frame: torch.Tensor) -> torch.Tensor:
        maps, states[0] = other.features(frame[None, None], states[0])
        return other.predict(maps)[0, 0]

    return step


def backbone_of(kind: str, preset: str, L: int, device: str) -> Run:
    if kind == "limit":
        return limit_of(backbone_of("ours", preset, L, device), device)
    model = network(preset, device).eval()
    x = chunk(model, L, device)[0]
    run = model if kind == "ours" else Plain(model)
    return torch.no_grad()(lambda: run.features(x))


class _Record(TorchDispatchMode):
    """Notes the heavy operations that run, with what they are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1].lstrip("_")  # aten's, or those of a library by name
        if name.startswith(HEAVY) and "meta" not in name:
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)


def limit_of(run: Run, device: str, graph: bool = False) -> Run:
    """The heavy operations of a run by themselves, on random buffers of the same shapes and strides.

    With ``graph`` as one CUDA graph.
    """
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
    @torch.autocast(device, enabled=False)  # the operations are those after its casts
    def heavy() -> None:
        for f, args, kwargs in calls:
            f(*args, **kwargs)

    return record_graph(heavy, torch.device("cuda")).replay if graph else heavy


def peak_of(kind: str, preset: str, L: int, device: str) -> float:
    """Peak memory of three training steps, in MB: ours as training runs them, which keeps freed memory for the next."""
    exact_float32()
    with nullcontext() if kind == "plain" else memory_kept():
        training_of(kind, "sim-smoke", 4, device)()  # loads libraries and compiles
        step = training_of(kind, preset, L, device)
        return peak_mb(lambda: [step() for _ in range(3)], device)


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def measure(
    device: str = "cpu",
    *,
    preset: str = "gen1-small",
    length: int = 21,
    repeats: int = 5,
    memory: bool = True,
) -> Iterator[dict[str, Any]]:
    """The rows of the table, as they are measured: name, plain, ours, limit (ms, or MB), and the ratio plain / ours."""
    yield from measure_streaming(device, preset, 10 * repeats)
    if device == "cpu":
        yield from measure_exported(preset, 10 * repeats)
    yield from measure_chunks(device, preset, length, repeats, memory)


def measure_chunks(
    device: str, preset: str, length: int, repeats: int, memory: bool
) -> Iterator[dict[str, Any]]:
    """The rows of a training step and of the backbone."""
    label = f"training step, L = {length}"
    yield from both_precisions(label, lambda kind: training_of(kind, preset, length, device), device, repeats)
    yield measure_burn_in(device, preset, length, repeats)
    if memory:
        peaks = {kind: alone(device, peak_of, kind, preset, length, device) for kind in KINDS}
        for kind in KINDS[1:]:
            row = {"row": f"peak memory, MB, {kind}", "plain": peaks["plain"], "ours": peaks[kind]}
            yield {**row, "ratio": peaks["plain"] / peaks[kind]}
    label = f"backbone, L = {length}"
    yield from both_precisions(
        label, lambda kind: backbone_of(kind, preset, length, device), device, repeats, KINDS[:2]
    )


def measure_burn_in(device: str, preset: str, length: int, repeats: int) -> dict[str, Any]:
    """The row of burn-in: a step with the mean past of 0–40 frames against one without."""
    model = network(preset, device)
    runs = {
        name: burn_in_training(model, length, past, device) for name, past in (("without", 0), ("ours", 20))
    }
    times = best_ms(runs, repeats, device)
    return {"row": "burn-in 0–40 / without", **times, "ratio": times["ours"] / times["without"]}


def measure_streaming(device: str, preset: str, repeats: int) -> Iterator[dict[str, Any]]:
    """The rows of one frame of batch 1."""

    def make(kind: str) -> Run:
        return streaming_of(kind, preset, device)

    yield from both_precisions(f"streaming, {preset}", make, device, repeats, KINDS[:2])


def measure_exported(preset: str, repeats: int) -> Iterator[dict[str, Any]]:
    """The row of one frame as exported to ONNX and run by onnxruntime on the CPU."""
    label = f"streaming, {preset}, ONNX"
    try:
        exported = exported_step(network(preset, "cpu").eval())
    except (ImportError, InputError) as error:
        yield {"row": label, "not measured": str(error)}
        return
    times = best_ms({"plain": streaming_of("plain", preset, "cpu"), "ours": exported}, repeats, "cpu")
    yield {"row": label, **times, "ratio": times["plain"] / times["ours"]}


def both_precisions(
    label: str, make: Callable[[str], Run], device: str, repeats: int, kinds: tuple[str, ...] = KINDS
) -> Iterator[dict[str, Any]]:
    """A row in fp32 and one in bf16."""
    yield {"row": f"{label}, fp32", **compare(make, kinds, repeats, device, False)}
    if has_bf16(device):
        yield {"row": f"{label}, bf16", **compare(make, kinds, repeats, device, True)}
    else:
        yield {"row": f"{label}, bf16", "not measured": "the device has no bfloat16 products"}


def compare(
    make: Callable[[str], Run], kinds: tuple[str, ...], rounds: int, device: str, bf16: bool
) -> dict[str, float]:
    """Best times in ms. With ``bf16`` ours runs under autocast; the plain one always runs in fp32."""

    # Without autocast's cache: a CUDA graph would keep it beyond its life.
    def cast(call: Run) -> Run:
        return torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=False)(call)

    runs = {kind: cast(cast(make)(kind)) for kind in kinds if kind != "plain"}
    runs["limit"] = cast(make)("limit")
    runs["plain"] = make("plain")
    times = best_ms(runs, rounds, device)
    return {**times, "ratio": times["plain"] / times["ours"]}


def print_row(row: dict[str, Any]) -> None:
    if "not measured" in row:
        print(f"{row['row']:32} not measured: {row['not measured']}", flush=True)
        return
    values = "".join(f"{row[key]:11.2f}" if key in row else 11 * " " for key in ("plain", "ours", "limit"))
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
    exact_float32()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}, {options.preset}: ms"
    )
    print(f"{'':32}{'plain':>11}{'ours':>11}{'limit':>11}{'ratio':>9}")
    rows = []
    for row in measure(
        options.device,
        preset=options.preset,
        length=options.length,
        repeats=options.repeats,
        memory=not options.no_memory,
    ):
        rows.append(row)
        print_row(row)
    if options.out:
        write_results(options.out, {**circumstances(options.device), "preset": options.preset, "rows": rows})


if __name__ == "__main__":
    main()
