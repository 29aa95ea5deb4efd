"""Which chunks make which batch: published rules, determinism, ranks and resuming."""

import itertools
from collections import Counter

import numpy as np
import pytest
from sequence_files import C, H, W, write_some

from ssmbook.dataset import EvaluationStreams, TrainingSchedule
from ssmbook.dataset.schedule import random_chunks, split_slots, training_streams
from ssmbook.errors import InputError


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    return write_some(tmp_path_factory.mktemp("set"))


def take(schedule, count):
    """So many batches of keys, epoch after epoch, counted as taken."""
    batches = []
    while len(batches) < count:
        for keys in schedule:
            schedule.seen += 1
            batches.append(keys)
            if len(batches) == count:
                break
    return batches


def place(key):
    return key.sequence, key.start, key.stop


# Random chunks


@pytest.mark.parametrize("length", [1, 5, 12])
def test_random_chunks_end_at_each_label_frame_that_has_room(sequences, length):
    wanted = [
        (i, int(end) + 1 - length, int(end) + 1)
        for i, sequence in enumerate(sequences)
        for end in sequence.label_frames
        if end >= length - 1
    ]
    chunks = random_chunks(sequences, length)
    assert [place(key) for key in chunks] == wanted
    assert all(key.first for key in chunks)


def test_no_room_for_a_chunk_is_an_error(sequences):
    with pytest.raises(InputError, match="has 41 windows up to it"):
        random_chunks(sequences, 41)


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_epoch_holds_each_random_chunk_once(sequences, ranks):
    schedules = [TrainingSchedule(sequences, 3, 2, rank=rank, ranks=ranks) for rank in range(ranks)]
    chunks = random_chunks(sequences, 3)
    batches = len(chunks) // (2 * ranks)
    assert batches > 2
    for _ in range(2):
        keys = [key for schedule in schedules for batch in take(schedule, batches) for key in batch]
        assert len(set(map(place, keys))) == len(keys) == batches * 2 * ranks
        assert {place(key) for key in keys} <= {place(key) for key in chunks}
        assert len({key.seed for key in keys}) == len(keys)


def test_ranks_share_the_batches_of_one(sequences):
    """Two ranks with three slots each draw what one rank with six draws."""
    together = take(TrainingSchedule(sequences, 3, 6, burn_in=5), 12)
    parts = [take(TrainingSchedule(sequences, 3, 3, burn_in=5, rank=rank, ranks=2), 12) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == together
    together = take(TrainingSchedule(sequences, 3, 6, sampling="stream"), 40)
    parts = [
        take(TrainingSchedule(sequences, 3, 3, sampling="stream", rank=rank, ranks=2), 40)
        for rank in range(2)
    ]
    assert [a + b for a, b in zip(*parts, strict=True)] == together


def test_a_set_smaller_than_a_batch_repeats_itself(sequences):
    count = len(random_chunks(sequences, 20))
    (keys,) = TrainingSchedule(sequences, 20, count + 3)
    assert len(keys) == count + 3
    assert len({place(key) for key in keys}) == count


def test_without_augmentation_no_key_has_a_seed(sequences):
    for sampling in ("random", "stream", "mixed"):
        schedule = TrainingSchedule(sequences, 3, 4, sampling=sampling, augment=False)
        assert {key.seed for keys in take(schedule, 5) for key in keys} == {None}


# Burn-in


@pytest.mark.parametrize("burn_in", [0, 9])
def test_the_draws_of_an_epoch(sequences, burn_in):
    """Order and seeds by themselves, as they are without burn-in; then the pasts, cut where a sequence begins."""
    schedule = TrainingSchedule(sequences, 3, 4, burn_in=burn_in, seed=5)
    chunks = random_chunks(sequences, 3)
    for epoch in range(2):
        rng = np.random.default_rng((5, epoch))
        order = rng.permutation(len(chunks))
        seeds = rng.integers(2**63, size=len(chunks))
        pasts = rng.integers(burn_in + 1, size=len(chunks))
        wanted = [
            chunks[i]._replace(seed=int(seed), past=int(min(past, chunks[i].start)))
            for i, seed, past in zip(order, seeds, pasts, strict=True)
        ]
        assert [key for keys in take(schedule, len(schedule)) for key in keys] == wanted[: 4 * len(schedule)]


def test_every_length_of_past_is_drawn_equally_often_and_for_random_chunks_alone(sequences):
    schedule = TrainingSchedule(sequences, 3, 8, sampling="mixed", burn_in=4)
    keys = [key for batch in take(schedule, 2000) for key in batch]
    assert {key.past for key in keys if key.stream} == {0}
    found = Counter(key.past for key in keys if not key.stream and key.start >= 4)
    total = found.total()
    for past in range(5):
        # Six standard deviations of a binomial count.
        assert found[past] == pytest.approx(total / 5, abs=6 * (total * 0.2 * 0.8) ** 0.5)
    assert sorted(found) == [0, 1, 2, 3, 4]


# Training streams


@pytest.mark.parametrize("length", [1, 2, 5, 21])
def test_every_training_chunk_has_a_label(sequences, length):
    runs = training_streams(sequences, length)
    labelled = Counter()
    for run in runs:
        assert [key.first for key in run] == [True] + [False] * (len(run) - 1)
        for a, b in itertools.pairwise(run):
            assert (a.stop, a.stop - a.start) == (b.start, length)
        for key in run:
            inside = [int(i) for i in sequences[key.sequence].label_frames if key.start <= i < key.stop]
            assert inside, "a chunk without a label teaches nothing"
            labelled.update((key.sequence, i) for i in inside)
    wanted = [(n, int(i)) for n, s in enumerate(sequences) for i in s.label_frames]
    assert labelled == Counter(wanted), "each label frame in exactly one chunk"


def test_sequences_are_cut_only_where_labels_are_too_far_apart(sequences):
    length = 5
    for i, sequence in enumerate(sequences):
        runs = [run for run in training_streams(sequences, length) if run[0].sequence == i]
        far = np.flatnonzero(np.diff(sequence.label_frames) > length)
        assert len(runs) == len(far) + 1
        starts = [int(sequence.label_frames[0]), *sequence.label_frames[far + 1].tolist()]
        ends = [*sequence.label_frames[far].tolist(), int(sequence.label_frames[-1])]
        assert [run[0].start for run in runs] == [max(0, start - (length - 1)) for start in starts]
        assert [run[-1].stop for run in runs] == [end + 1 for end in ends]


def test_each_slot_runs_through_all_sequences_in_its_own_order(sequences):
    runs = training_streams(sequences, 5)
    total, slots = sum(map(len, runs)), 3
    batches = take(TrainingSchedule(sequences, 5, slots, sampling="stream"), 2 * total)
    orders = []
    for slot in range(slots):
        keys = [batch[slot] for batch in batches]
        for turn in (keys[:total], keys[total:]):
            starts = [i for i, key in enumerate(turn) if key.first]
            played = [turn[a:b] for a, b in itertools.pairwise([*starts, total])]
            assert all(len({key.seed for key in run}) == 1 for run in played), "one augmentation a sequence"
            assert sorted([place(key) for key in run] for run in played) == sorted(
                [place(key) for key in run] for run in runs
            )
            orders.append([place(run[0]) for run in played])
        assert all(key.stream for key in keys)
    assert len(set(map(tuple, orders))) == len(orders), "no order comes twice"


@pytest.mark.parametrize(("batch_size", "split"), [(8, 4), (2, 1), (3, 2), (5, 2)])
def test_mixed_batches_are_split_in_half(sequences, batch_size, split):
    assert split_slots(batch_size, "mixed") == (split, batch_size - split)
    schedule = TrainingSchedule(sequences, 5, batch_size, sampling="mixed")
    randoms = TrainingSchedule(sequences, 5, split)
    streams = TrainingSchedule(sequences, 5, batch_size - split, sampling="stream")
    mixed = take(schedule, 30)
    assert [batch[:split] for batch in mixed] == take(randoms, 30)
    assert [batch[split:] for batch in mixed] == take(streams, 30)


# Resuming


@pytest.mark.parametrize("sampling", ["random", "stream", "mixed"])
@pytest.mark.parametrize("seen", [0, 1, 7, 40, 171])
def test_a_schedule_goes_on_at_any_batch(sequences, sampling, seen):
    burn_in = 0 if sampling == "stream" else 5
    options = {"sampling": sampling, "seed": 5, "burn_in": burn_in}
    whole = take(TrainingSchedule(sequences, 4, 4, **options), seen + 25)
    assert take(TrainingSchedule(sequences, 4, 4, **options, seen=seen), 25) == whole[seen:]
    other = take(TrainingSchedule(sequences, 4, 4, **{**options, "seed": 6}), 25)
    assert other != whole[:25]


def test_what_was_read_ahead_does_not_count(sequences):
    schedule = TrainingSchedule(sequences, 4, 4, sampling="mixed")
    ahead = list(itertools.islice(iter(schedule), 5))
    schedule.seen += 2
    assert list(itertools.islice(iter(schedule), 3)) == ahead[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "both"}, "sampling is 'both'; it can be random, stream, mixed"),
        ({"sampling": "mixed", "batch_size": 1}, "batch_size is 1"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"burn_in": 5, "sampling": "stream"}, "burn_in is 5, but sampling 'stream' has no random chunks"),
        ({"length": 0}, "length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_options_are_named(sequences, options, message):
    with pytest.raises(InputError, match=message):
        TrainingSchedule(sequences, **{"length": 3, "batch_size": 2, **options})


# Evaluation streams


def all_label_frames(sequences):
    return sorted((s.name, int(t)) for s in sequences for t in s.label_times_us)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("length", [1, 5, 21])
def test_every_label_frame_comes_exactly_once(sequences, batch_size, length):
    streams = EvaluationStreams(sequences, length, batch_size)
    found = [
        (batch.sequences[b], int(t))
        for batch in streams
        for (_, b), t in zip(batch.frames.tolist(), batch.times_us, strict=True)
    ]
    assert sorted(found) == all_label_frames(sequences)
    assert len(list(streams)) == len(streams)


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_a_slot_runs_through_whole_sequences(sequences, batch_size):
    length = 5
    streamed = {}
    for batch in EvaluationStreams(sequences, length, batch_size):
        assert batch.x.shape == (length, min(batch_size, 7), C, H, W), "no slot without a sequence"
        for b, name in enumerate(batch.sequences):
            windows = batch.x[:, b, 0, 0, 0].tolist()
            if name == "":
                assert batch.first[b]
                assert not any(windows)
                continue
            assert batch.first[b] == (name not in streamed), "first marks the first chunk of a sequence"
            slot, seen = streamed.setdefault(name, (b, []))
            assert slot == b
            seen += windows
    assert set(streamed) == {s.name for s in sequences}
    for sequence in sequences:
        begin = max(0, int(sequence.label_frames[0]) - (length - 1))
        seen = streamed[sequence.name][1]
        expected = list(range(begin + 1, len(sequence) + 1))
        assert seen[: len(expected)] == expected
        assert seen[len(expected) :] == [0] * (len(seen) - len(expected))
        assert len(seen) - len(expected) < length


def test_slots_have_about_equal_work(sequences):
    streams = EvaluationStreams(sequences, 5, 3)
    work = [len(slot) for slot in streams.slots]
    assert max(work) - min(work) <= 2


@pytest.mark.parametrize(("batch_size", "ranks"), [(2, 2), (3, 4), (1, 9)])
def test_ranks_evaluate_each_label_frame_once_in_as_many_batches(sequences, batch_size, ranks):
    shares = [EvaluationStreams(sequences, 5, batch_size, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    found = [
        (batch.sequences[b], int(t))
        for share in shares
        for batch in share
        for (_, b), t in zip(batch.frames.tolist(), batch.times_us, strict=True)
    ]
    assert sorted(found) == all_label_frames(sequences)
    slots = min(batch_size, -(-7 // ranks))  # of 7 sequences
    assert all(batch.x.shape == (5, slots, C, H, W) for share in shares for batch in share)
