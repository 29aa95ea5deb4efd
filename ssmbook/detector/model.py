"""The detector: backbone with a carried state, neck, head."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.detector.backbone import MULTIPLIERS, Backbone
from ssmbook.detector.boxes import anchor_grid
from ssmbook.detector.config import STRIDES, DetectorConfig
from ssmbook.detector.head import YOLOXHead, detection_loss, scores_and_boxes
from ssmbook.detector.neck import PAFPN
from ssmbook.detector.recurrences.states import check_state
from ssmbook.detector.trained_on import TrainedOn
from ssmbook.errors import InputError, shown
from ssmbook.ssm.inputs import as_scale, check_axes

Features = dict[int, Tensor]


class Detector(nn.Module):
    """S5-ViT (arXiv 2402.15584), or RVT (arXiv 2212.05598) with another recurrence: events in, boxes out.

    Args:
        embed_dim: width of the first stage; the others have 2, 4 and 8 times as much.
        dim_head: width of an attention head; divides embed_dim.
        fpn_depth: depth of the neck, whose blocks have round(3 · fpn_depth) bottlenecks.
        num_classes: classes.
        input_hw: (height, width) of the network's input in pixels, to which frames are padded with zeros at
            the bottom and right; a multiple of 32 · ``partition``.
        partition: (p_h, p_w), tokens of an attention group.
        recurrence: a name of ``RECURRENCES``.
        carry: ``"exact"``: a state that is passed in is where the chunk begins; ``"published"``: every chunk
            begins at zero, as it does in the released code of S5-ViT, whatever state is passed in.
        in_channels: channels of a frame.
        mask_token: learn a vector that stands in for masked tokens.
        checkpointing: save memory in training by running each stage of the backbone again for its gradients,
            which are the same. How to train, not what: it is not part of ``config``.
        options: of the recurrence, see its class: ``bandlimit``, ``bandlimit_mode`` (S5: 0.5 and "once", as published;
            S4D: None), ``clip_eigs`` (S5: no mode can grow), ``low_pass`` (S5: what goes past the layer is smoothed, so
            that it follows the rate, too), ``state_gain`` (all state-space layers: factor on C at the start, so that
            the state is heard beside the skip).

    Raises:
        InputError: a size that does not fit the others, or an option that the recurrence does not have.
    """

    anchors: Tensor
    trained_on: TrainedOn | None = None  # of the checkpoint that the weights come from

    def __init__(
        self,
        *,
        embed_dim: int,
        dim_head: int,
        fpn_depth: float,
        num_classes: int,
        input_hw: tuple[int, int],
        partition: tuple[int, int],
        recurrence: str = "s5",
        carry: Literal["exact", "published"] = "exact",
        in_channels: int = 20,
        mask_token: bool = False,
        checkpointing: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        config = DetectorConfig(
            embed_dim=embed_dim,
            dim_head=dim_head,
            fpn_depth=fpn_depth,
            num_classes=num_classes,
            input_hw=input_hw,
            partition=partition,
            recurrence=recurrence,
            carry=carry,
            in_channels=in_channels,
            mask_token=mask_token,
            options=options,
        )
        self.config = config.plain()
        self.input_hw, self.carry = config.input_hw, config.carry
        self.num_classes, self.in_channels = config.num_classes, config.in_channels
        self.backbone = Backbone(config, checkpointing)
        _, c2, c3, c4 = (config.embed_dim * multiplier for multiplier in MULTIPLIERS)
        self.neck = PAFPN((c2, c3, c4), config.fpn_depth)
        self.head = YOLOXHead((c2, c3, c4), config.num_classes)
        self.register_buffer("anchors", anchor_grid(self.input_hw, STRIDES[1:]), persistent=False)

    def features(
        self,
        x: Tensor,
        states: list[Any] | None = None,
        step_scale: float | Tensor = 1.0,
        token_mask: Tensor | None = None,
        frames: Tensor | None = None,
    ) -> tuple[Features, list[Any]]:
        """Run the backbone over a chunk.

        Args:
            x: frames [L, B, in_channels, H, W], uint8, int8 or float, no larger than ``input_hw``.
            states: what the previous chunk returned; None starts from zero.
            step_scale: time between frames in units of that in training, a number, [B] or [L, B]; a state-space
                layer multiplies its Δ by it, a ConvLSTM raises its forget gates to it. Where B = L, [1, B] or [L, 1]
                say which axis is meant.
            token_mask: bool [L, B, h/4, w/4], (h, w) = ``input_hw``, true where the learnt vector takes the
                place of the stem's output.
            frames: [M, 2] of (l, b); only these frames' features are returned.

        Returns:
            Features {1..4: [L, B, C, h, w]} (with ``frames`` [M, C, h, w]), and the states after the last
            frame, one per stage: S5 complex [B, P, h, w], S4D and S4 complex [B, C · 32, h, w] (32 modes for
            each feature), Mamba real [B, C · 16, h, w], ConvLSTM (h, c), each [B, C, h, w], none None.

        Raises:
            InputError: shapes that do not fit the model or each other, or frames, on the CPU, that x has not.
        """
        step_scale = as_scale(step_scale)
        self._check_input(x, states, step_scale, token_mask, frames)
        if self.carry == "published":
            states = None
        B = x.shape[1]
        tokens, states = self.backbone(self._images(x), B, states, step_scale, token_mask)
        if frames is None:
            return {i: t.permute(0, 1, 4, 2, 3) for i, t in tokens.items()}, states  # [L, B, C, h, w]
        step, slot = frames.to(x.device).unbind(-1)
        return {i: t[step, slot].permute(0, 3, 1, 2) for i, t in tokens.items()}, states  # [M, C, h, w]

    def predict(self, features: Features) -> Tensor:
        """Features {2, 3, 4: [..., C, h, w]} → [..., A, 5 + classes]: cx, cy, w, h in pixels, objectness,
        classes.

        The leading axes are those of the features. BatchNorm works as the module's mode says.
        """
        if features[2].ndim == 3:
            return self.predict({i: f[None] for i, f in features.items()})[0]
        raw = self._raw(features)
        return scores_and_boxes(raw, self.anchors).unflatten(0, features[2].shape[:-3])

    def loss(
        self,
        features: Features,
        targets: Tensor,
        reduce_count: Callable[[int], float | Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The training loss of labelled frames, see ``detection_loss``.

        Args:
            features: {2, 3, 4: [M, C, h, w]}.
            targets: [M, G, 5]: class, cx, cy, w, h in pixels of ``input_hw``; rows that sum to 0 are padding.
            reduce_count: see ``detection_loss``.

        Returns:
            Scalars: loss, iou_loss, conf_loss, cls_loss, l1_loss, num_fg.

        Raises:
            InputError: targets of other frames than the features, or of a class the model does not have.
        """
        M = len(features[2])
        if features[2].ndim != 4 or targets.ndim != 3 or targets.shape[0] != M or targets.shape[2] != 5:
            raise InputError(
                f"features must be [M, C, h, w] and targets [M, G, 5], not {list(features[2].shape)} and "
                f"{list(targets.shape)}"
            )
        if targets.numel():
            for extreme in targets[..., 0].aminmax():
                if not 0 <= extreme < self.num_classes:
                    raise InputError(
                        f"targets hold class {extreme:g}; the model has {self.num_classes} classes"
                    )
        raw = self._raw(features)
        with torch.autocast(raw.device.type, enabled=False):  # the loss is float32, whatever the network is
            return detection_loss(raw, self.anchors, targets.to(self.anchors), reduce_count)

    def _images(self, x: Tensor) -> Tensor:
        """x [L, B, C, h, w] → float [L·B, C, H, W], padded to the model's size, channels last in memory."""
        h, w = x.shape[3:]
        H, W = self.input_hw
        x = x.flatten(0, 1)
        if torch.compiler.is_compiling():  # no writing into views, which not every exporter follows
            return F.pad(x.to(self.anchors.dtype), (0, W - w, 0, H - h))
        make = torch.empty if (h, w) == (H, W) else torch.zeros
        images = make(len(x), H, W, self.in_channels, dtype=x.dtype, device=x.device)
        images[:, :h, :w] = _set_apart(x).permute(0, 2, 3, 1)  # pads, reorders; bytes, where counts are bytes
        return images.to(self.anchors.dtype).permute(0, 3, 1, 2)

    def _raw(self, features: Features) -> Tensor:
        """{2, 3, 4: [..., C, h, w]} → [M, A, 5 + classes], M the product of the leading axes."""
        maps = (features[i].flatten(0, -4) for i in (2, 3, 4))
        return self.head(self.neck(*maps))

    def _check_input(
        self,
        x: Tensor,
        states: list[Any] | None,
        step_scale: float | Tensor,
        token_mask: Tensor | None,
        frames: Tensor | None,
    ) -> None:
        H, W = self.input_hw
        fits = x.ndim == 5 and x.shape[2] == self.in_channels and x.shape[3] <= H and x.shape[4] <= W
        if not fits or 0 in x.shape:
            raise InputError(
                f"x must be [L, B, {self.in_channels}, ≤ {H}, ≤ {W}] for this model, not {list(x.shape)}"
            )
        L, B = x.shape[:2]
        if isinstance(step_scale, Tensor):
            shape = tuple(step_scale.shape)
            check_axes(shape, B, L, f"[1, {B}] for each sequence or [{L}, 1] for each step")
            if shape not in ((), (B,), (L, B), (1, B), (L, 1)):
                raise InputError(f"step_scale must be a number, [{B}] or [{L}, {B}], not {list(shape)}")
        if states is not None and len(states) != len(STRIDES):
            raise InputError(f"states must be a list of {len(STRIDES)}, one per stage, not of {len(states)}")
        for stage, state in zip(self.backbone.stages, states or (), strict=False):
            check_state(stage.recurrence, state)  # type: ignore[arg-type]
        if frames is not None:
            self._check_frames(frames, L, B)
        if token_mask is None:
            return
        if not self.config["mask_token"]:
            raise InputError("the model has no vector for masked tokens: make it with mask_token=True")
        wanted = (L, B, H // STRIDES[0], W // STRIDES[0])
        if token_mask.shape != wanted:
            raise InputError(f"token_mask must be {list(wanted)}, not {list(token_mask.shape)}")

    @staticmethod
    def _check_frames(frames: Tensor, L: int, B: int) -> None:
        if frames.ndim != 2 or frames.shape[1] != 2 or frames.dtype not in (torch.int32, torch.int64):
            raise InputError(f"frames must be integers [M, 2], not {frames.dtype} {list(frames.shape)}")
        if frames.device.type != "cpu" or torch.compiler.is_compiling():
            return  # to look at the numbers would mean to wait for them
        if bool(((frames < 0) | (frames >= frames.new_tensor([L, B]))).any()):
            raise InputError(
                f"frames must be (l, b) with l below {L} and b below {B}, not {shown(frames.tolist())}"
            )


def _set_apart(x: Tensor) -> Tensor:
    """x [N, C, h, w] with channels that are no multiple of 4 KiB apart: a pixel's would all share a line of the CPU's
    first cache, and reordering them take more than twice as long."""
    N, C, h, w = x.shape
    if x.device.type != "cpu" or C == 1 or h * w * x.element_size() % 4096:
        return x
    return x.new_empty(N, C, h * w + 64)[..., : h * w].unflatten(2, (h, w)).copy_(x)
