"""One frame after another through a detector, as it runs live: batch 1, its state held; on a GPU one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ssmbook.detector.model import Detector
from ssmbook.detector.recurrences import map_states, tensors_of
from ssmbook.live.folding import fold

WARM_UP = 3  # runs before a capture, in which kernels are compiled and workspaces allocated


class NetworkStep:
    """One frame through the network, batch 1, its state held from call to call.

    BatchNorm is part of the convolutions; on a GPU the step is one CUDA graph, whose states stay where they
    are. The model itself is not changed.

    Args:
        model: the detector; its device and precision are kept.
        frame_hw: (height, width) of the frames.
        step_scale: see ``Detector.features``; a step after a gap is so many times as long.
        dtype: of the frames.
    """

    def __init__(
        self,
        model: Detector,
        frame_hw: tuple[int, int],
        step_scale: float = 1.0,
        dtype: torch.dtype = torch.uint8,
    ) -> None:
        self.model, self.step_scale = fold(model), step_scale
        self.device = self.model.anchors.device
        self.frame = torch.zeros(1, 1, model.in_channels, *frame_hw, dtype=dtype, device=self.device)
        self.states: Any = None
        self._predictions: torch.Tensor | None = None  # of the graph
        self._graph: torch.cuda.CUDAGraph | None = None
        if self.device.type == "cuda":
            self._capture()

    @torch.no_grad()
    def __call__(self, frame: torch.Tensor, gap: float = 1.0) -> torch.Tensor:
        """Counts [C, H, W] → predictions [A, 5 + classes]; on a GPU they are overwritten by the next call.

        Args:
            frame: the next one.
            gap: time since the frame before, in units of the usual one.
        """
        if self._graph is None or self._predictions is None:
            predictions, self.states = self.run(frame[None, None].to(self.device), self.states, gap)
            return predictions
        self.frame[0, 0].copy_(frame)
        if gap == 1.0:
            self._graph.replay()
        else:  # the graph's scale is a constant
            predictions, states = self.run(self.frame, self.states, gap)
            self._keep(states)
            self._predictions.copy_(predictions)
        return self._predictions

    def reset(self) -> None:
        """Forget the past: the next frame is the first."""
        self.states = map_states(torch.Tensor.zero_, self.states)

    def run(self, frame: torch.Tensor, states: Any, gap: float = 1.0) -> tuple[torch.Tensor, Any]:
        """What the graph does, operation by operation: a frame [1, 1, C, H, W] → predictions, new states."""
        features, states = self.model.features(frame, states, self.step_scale * gap)
        return self.model.predict(features)[0, 0], states

    @torch.no_grad()
    def _capture(self) -> None:
        self.states = map_states(torch.clone, self.run(self.frame, None)[1])

        def step() -> None:
            self._predictions, states = self.run(self.frame, self.states)
            self._keep(states)

        self._graph = record_graph(step, self.device)
        self.reset()

    def _keep(self, states: Any) -> None:
        """Copy states into the memory that the graph reads and writes."""
        for old, new in zip(tensors_of(self.states), tensors_of(states), strict=True):
            old.copy_(new)


def record_graph(run: Callable[[], object], device: torch.device) -> torch.cuda.CUDAGraph:
    """A CUDA graph of what ``run`` does on a GPU; it runs before, too, and its last results are the graph's.

    The tensors that it reads and writes must keep their memory, and it must not synchronise with the host or copy from
    it. Under autocast the cache of cast weights must be off, since a graph would go on reading it.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    # The capture is on the warm-up's stream, for which the handles and workspaces of cuBLAS are there by then. The
    # stream that torch would take lies on the device of the process's first capture.
    with torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, stream=stream):
            run()
    return graph
