"""Where the things of one profile lie, each made when it is missing: raw set, preprocessed sets, models.

========================================  ====================================================
``<data>/raw/{train,val,test}``           raw events and boxes (simulated, or yours)
``<data>/sets/window=50_stride=50/…``     preprocessed sequences
``<data>/runs/<variant>/``                one run: model, metrics, provenance
``data/tables/<profile>``                 tables of the book (csv)
``figures/<profile>``                     figures of the book
========================================  ====================================================

``data`` and ``figures`` are those of the book's folder, from wherever a chapter or a command is run; the three places
are told first. With another folder for the data, tables and figures lie in ``<profile>@<folder>-<six digits>``, so
that those of two sets of data stay apart.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ssmbook.dataset import (
    Batch,
    EvaluationStreams,
    Sensor,
    find_sequences,
    get_sensor,
    preprocess_sets,
)
from ssmbook.dataset.grid import BASE_HZ, BASE_MS
from ssmbook.dataset.labels import MIXED_STEPS
from ssmbook.dataset.parameters import check_sensor, mixed_stride
from ssmbook.detector import PRESETS, Detector, TrainedOn, fine_tune, input_sizes, load_checkpoint
from ssmbook.errors import InputError
from ssmbook.events import Representation, StackedHistogram, get_representation
from ssmbook.events.simulate import simulate_set
from ssmbook.files import existing_folder
from ssmbook.processes import is_first
from ssmbook.progress import tell
from ssmbook.study.arms import Profile, Variant
from ssmbook.study.profiles import get_profile
from ssmbook.training.loggers import check_logger
from ssmbook.training.run_folder import MODEL, Older, finished_model, is_finished
from ssmbook.training.settings import Training

if TYPE_CHECKING:
    from distributed import Client

    from ssmbook.dataset import EventDataModule

SPLITS = ("train", "val", "test")
MIXED_RATES_HZ = tuple(BASE_HZ / step for step in MIXED_STEPS)  # of a training with mixed rates


def book_root(start: str | Path = ".") -> Path:
    """The folder of the book: the nearest one upwards from ``start`` that holds ``myst.yml``; else the checkout that
    this library is imported from; else, installed without the book, ``start``."""
    start, own = Path(start).resolve(), Path(__file__).resolve().parents[2]
    folders = (start, *start.parents, own)
    return next((folder for folder in folders if (folder / "myst.yml").exists()), start)


def _in_name(value: Any) -> str:
    """An option's value as a part of a folder's name."""
    return "-".join(f"{x:g}" for x in value) if isinstance(value, list | tuple) else f"{value}"


@functools.cache
def _tell_place(folder: Path, tables: Path, figures: Path) -> None:
    """Once in a process, and by one of those that train together."""
    if is_first():
        tell(f"data and runs: {folder}\ntables: {tables}\nfigures: {figures}")


class Workspace:
    """The folders of one profile, and what makes their contents. Nothing that is there is made again.

    Args:
        profile: a name of ``PROFILES``, or one of your own.
        data_dir: a folder where data and runs lie; ``data/<profile>`` of the book by default. For a real set, the
            folder that holds ``raw/{train,val,test}``, or the preprocessed set itself.
        workers: processes that simulate and preprocess.
        representation: of the events, instead of the profile's.
        logger: where the metrics of its runs go besides ``metrics.csv``, see ``ssmbook.training.run``.

    Raises:
        InputError: there is no such profile, representation or logger.
    """

    def __init__(
        self,
        profile: str | Profile,
        data_dir: str | Path = "",
        workers: int = 2,
        representation: str = "",
        logger: str = "csv",
    ) -> None:
        check_logger(logger)
        self.logger = logger
        self.profile: Profile = get_profile(profile)
        if representation and representation != self.profile.representation:
            self.profile = replace(self.profile, representation=representation, representation_options={})
        self.kind = get_representation(self.profile.representation)
        given = self.profile.representation_options
        if given and self.represent.options == self.kind.for_sensor(self.sensor).options:  # the usual ones
            self.profile = replace(self.profile, representation_options={})
        root = book_root()
        name = self.profile.name
        own = root / "data" / name
        self.folder = Path(data_dir).absolute() if data_dir else own
        self.given = bool(data_dir) and self.folder.resolve() != own.resolve()
        if self.given:  # data of another place has tables of its own
            place = self.folder.resolve()
            name = f"{name}@{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:6]}"
        self.tables = root / "data" / "tables" / self._of(name)
        self.figures = root / "figures" / self._of(name)
        self.workers = workers
        _tell_place(self.folder.resolve(), self.tables, self.figures)

    @property
    def sensor(self) -> Sensor:
        return get_sensor(self.profile.sensor)

    @property
    def represent(self) -> Representation:
        """A new representation of the sensor's events."""
        return self.kind.for_sensor(self.sensor, **self.profile.representation_options)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with which each variant is trained."""
        return self.profile.seeds or (self.profile.training.seed,)

    def with_seed(self, seed: int) -> Workspace:
        """The same data, with runs of that seed alone."""
        own = copy.copy(self)
        training = replace(self.profile.training, seed=seed)
        own.profile = replace(self.profile, training=training, seeds=())
        return own

    def at(self, data_dir: str | Path) -> Workspace:
        """The same profile and folders of tables, with data and runs in another folder."""
        own = copy.copy(self)
        own.folder = Path(data_dir).absolute()
        return own

    def with_representation(self, representation: str) -> Workspace:
        """The same data and folders of tables, with models of another representation's frames."""
        if representation == self.profile.representation:
            return self
        own = copy.copy(self)
        own.profile = replace(self.profile, representation=representation, representation_options={})
        own.kind = get_representation(representation)
        return own

    def raw(self) -> Path:
        """The raw set; simulated here if the profile has a simulation."""
        if self.given:
            existing_folder(self.folder, "data and runs")
        folder, simulation = self.folder / "raw", self.profile.simulation
        if simulation is not None:
            simulate_set(folder, simulation, workers=self.workers)
        elif not folder.is_dir():
            raise InputError(f"{folder} is missing: put the raw set's train, val and test folders there")
        return folder

    def preprocessed(
        self, window_ms: float = BASE_MS, stride_ms: float = BASE_MS, splits: tuple[str, ...] = SPLITS
    ) -> Path:
        """The preprocessed set with that window and stride; made from the raw set where it is missing."""
        self.prepare([(window_ms, stride_ms)], splits)
        folder = self._set_folder(window_ms, stride_ms)
        if folder == self.folder:  # made elsewhere
            check_sensor(folder, self.sensor)
            if mixed_stride(folder) is not None:
                raise InputError(
                    f"{folder}: its steps are mixed, and nothing is validated on those; give a folder with the raw set "
                    "in raw, and with mixed_rates both sets are made from it"
                )
        return folder

    def prepare(
        self,
        settings: Iterable[tuple[float, float]],
        splits: tuple[str, ...] = SPLITS,
        client: Client | None = None,
    ) -> None:
        """Make the sets of several windows and strides in ms, those that are missing, from one reading of the
        raw set; on a Dask cluster where its client is given."""
        sets = {
            folder: self._made_with(window_ms, stride_ms)
            for window_ms, stride_ms in settings
            if (folder := self._set_folder(window_ms, stride_ms)) != self.folder
        }
        # Of several processes the first makes them; the others wait for it before they train.
        if sets and is_first():
            self._preprocess(sets, splits, client)

    def _preprocess(self, sets: dict[Path, dict], splits: tuple[str, ...], client: Client | None) -> None:
        """Make sets, those together that have the same label frames.

        Slower than labels come, a set has every n-th label frame: else its grid would have a window at each of them.
        """
        raw, by_sensor = self.raw(), dict[Sensor, dict[Path, dict]]()
        for folder, made_with in sets.items():
            sensor, stride_ms = self.sensor, made_with["stride_ms"]
            if (interval := sensor.label_interval_ms) is not None and interval < stride_ms:
                sensor = replace(sensor, label_interval_ms=stride_ms)
            by_sensor.setdefault(sensor, {})[folder] = made_with
        for sensor, some in by_sensor.items():
            with warnings.catch_warnings():
                if self.profile.simulation is not None:  # its labels may come more often, by intent
                    warnings.filterwarnings("ignore", ".* off the grid")
                preprocess_sets(raw, some, sensor, splits, self.workers, client)

    def _set_folder(self, window_ms: float, stride_ms: float) -> Path:
        if (window_ms, stride_ms) == (BASE_MS, BASE_MS) and (self.folder / "train").is_dir():
            return self.folder  # a preprocessed set as the authors of the data offer it
        window = f"window={window_ms:g}_" if self.kind.windowed else ""
        return self.folder / "sets" / f"{self._of('')}{window}stride={stride_ms:g}"

    def _of(self, name: str) -> str:
        """A folder's name, with the representation where it is not the default one, and its options where given."""
        options = self.profile.representation_options
        given = "".join(f"_{key}={_in_name(value)}" for key, value in sorted(options.items()))
        return name if self.kind is StackedHistogram and not given else f"{self.kind.name}{given}_{name}"

    def streams(
        self, split: str, window_ms: float = BASE_MS, stride_ms: float = BASE_MS, batch_size: int = 0
    ) -> EvaluationStreams:
        """One split as streams for evaluation, each label frame once; a batch as in training if not given."""
        splits = SPLITS if (window_ms, stride_ms) == (BASE_MS, BASE_MS) else (split,)
        settings = self.profile.training
        sequences = find_sequences(self.preprocessed(window_ms, stride_ms, splits) / split)
        return EvaluationStreams(sequences, settings.sequence_length, batch_size or settings.batch_size)

    def data_module(self, processes: int = 1, variant: str = "") -> EventDataModule:
        """The sets that a variant of the profile trains and validates on, as the batches of one of some processes."""
        from ssmbook.dataset import EventDataModule  # with Lightning, which takes long to import

        settings = self.training(variant)
        parts = processes * settings.accumulate
        if parts < 1:
            raise InputError(f"devices and nodes make {processes} processes; at least 1 must train")
        if settings.batch_size % parts:
            raise InputError(
                f"a batch of {settings.batch_size} cannot be shared by {processes} processes × "
                f"{settings.accumulate} accumulated batches; choose a multiple of {parts}"
            )
        return EventDataModule(
            self.preprocessed(stride_ms=1000 / self._rate_hz(variant)),
            sequence_length=settings.sequence_length,
            batch_size=settings.batch_size // parts,
            workers=settings.workers,
            augment=settings.augment,
            sampling=settings.sampling,
            burn_in=settings.burn_in,
            seed=settings.seed,
            train_dir=self._mixed(settings.mixed_rates) if settings.mixed_rates else None,
        )

    def _mixed(self, mode: str) -> Path:
        """The training set of steps of mixed lengths, made from the raw set where it is missing."""
        window = f"window={mode}_" if self.kind.windowed else ""
        folder = self.folder / "sets" / f"{self._of('')}{window}stride=mixed"
        made_with = self._made_with(BASE_MS if mode == "sliding" else None, BASE_MS)
        if is_first():
            self._preprocess({folder: {**made_with, "grid": "mixed"}}, ("train",), None)
        return folder

    def _made_with(self, window_ms: float | None, stride_ms: float) -> dict[str, Any]:
        """What a set of the profile's representation is made with."""
        return {
            "representation": self.kind.name,
            **({"window_ms": window_ms} if self.kind.windowed else {}),
            "stride_ms": stride_ms,
            "options": self.profile.representation_options,
        }

    def training_batch(self) -> Batch:
        """The first batch of a run."""
        return next(iter(self.data_module().train_dataloader()))

    def run(self, variant: str = "") -> Path:
        """The folder of one run: the variant's name, and its seed where that is not 0."""
        seed, variant = self.profile.training.seed, variant or self.profile.variants[0]
        return self.folder / "runs" / self._of(f"{variant}_seed={seed}" if seed else variant)

    def new_model(self, variant: str = "", init: str | Path = "") -> Detector:
        """The profile's detector for its sensor, with starting weights drawn from the run's seed.

        Args:
            variant: of the profile; its first one by default.
            init: a checkpoint to begin from, ours or released, see ``fine_tune``; its recurrence must be the variant's.
        """
        torch.manual_seed(self.profile.training.seed)
        sizes, classes = input_sizes(*self.sensor.frame_size), len(self.sensor.classes)
        chosen, masked = self._variant(variant), self.training(variant).mask_ratio > 0
        channels = self.represent.channels
        if init:
            model = fine_tune(init, classes, sizes["input_hw"], sizes["partition"], mask_token=masked)
            if model.in_channels != channels:
                raise InputError(
                    f"{init} takes {model.in_channels} channels, but {self.kind.name} has {channels}: choose the "
                    "representation that it was trained on"
                )
            if variant and model.config["recurrence"] != chosen.recurrence:
                raise InputError(
                    f"{init} has the recurrence {model.config['recurrence']}, and the variant {variant} "
                    f"{chosen.recurrence}; leave the variant out, or choose another"
                )
            return model
        config: dict[str, Any] = {
            **PRESETS[self.profile.model],
            **sizes,
            "num_classes": classes,
            "in_channels": channels,
            "recurrence": chosen.recurrence,
            "mask_token": masked,
            **chosen.options,
        }
        return Detector(**config)

    def _variant(self, name: str) -> Variant:
        return self.profile.variant(name or self.profile.variants[0])

    def _rate_hz(self, variant: str) -> float:
        """At which a variant is trained."""
        return self._variant(variant).rate_hz

    def training(self, variant: str = "") -> Training:
        """The hyper-parameters of one variant's training."""
        return replace(self.profile.training, **self._variant(variant).training)

    def train(
        self,
        variant: str = "",
        accelerator: str = "auto",
        devices: int = 1,
        nodes: int = 1,
        init: str | Path = "",
        name: str = "",
        older: Older = "aside",
    ) -> Path:
        """The checkpoint of the profile's training; trains, or goes on training, where it is missing.

        Args:
            variant, init: see ``new_model``.
            accelerator, devices, nodes, older: see ``ssmbook.training.run``.
            name: of the run's folder; see ``run`` for the default.
        """
        begun = {"init": hashlib.sha256(Path(init).read_bytes()).hexdigest()} if init else {}
        parameters = {**self._parameters(variant), **begun}
        model = self.new_model(variant, init)
        folder = self.folder / "runs" / name if name else self.run(variant)
        if done := finished_model(folder, self._settings(model, variant, parameters)):
            return done

        from ssmbook.training.run import train  # with Lightning

        return train(
            model,
            self.data_module(devices * nodes, variant),
            folder,
            sensor=self.profile.sensor,
            training=self.training(variant),
            accelerator=accelerator,
            devices=devices,
            nodes=nodes,
            logger=self.logger,
            older=older,
            parameters=parameters,
            trained_on=TrainedOn(
                representation=self.kind.name,
                options=self.represent.options,
                window_ms=BASE_MS if self.kind.windowed else None,
                rates_hz=MIXED_RATES_HZ if self.training(variant).mixed_rates else (),
            ),
        )

    def is_trained(self, variant: str) -> bool:
        """Whether the variant's folder holds a finished run with these settings, so that ``train`` would do nothing."""
        folder = self.run(variant)
        if not (folder / MODEL).exists():
            return False
        settings = self._settings(self.new_model(variant), variant, self._parameters(variant))
        return is_finished(folder, settings)

    def _settings(self, model: Detector, variant: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """What decides a run, as ``train`` records it."""
        return {**parameters, "model": model.config, "training": asdict(self.training(variant))}

    def _parameters(self, variant: str) -> dict[str, Any]:
        """What the provenance of a run records besides network and training; what is as usual is left out."""
        found: dict[str, Any] = {"profile": self.profile.name}
        if self.kind is not StackedHistogram:
            found["representation"] = self.kind.name
        if self.profile.representation_options or not self.kind.windowed:
            found["options"] = self.represent.options
        if (rate_hz := self._rate_hz(variant)) != BASE_HZ:
            found["rate_hz"] = rate_hz
        return found

    def model(self, variant: str = "", carry: str = "exact") -> Detector:
        """The trained detector, in eval mode."""
        return load_checkpoint(self.train(variant), carry=carry).eval()
