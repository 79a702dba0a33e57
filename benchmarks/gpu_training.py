"""Speed and memory of training SDXL's adapter at full size with random weights; run by ``benchmarks/gpu.sh --train-sdxl``.

Steps of ``msd train adapter``: its stage, its loop, its optimiser, on samples that are encoded once, as by ``msd data cache``; and how many
samples a second are encoded. Each size of a micro-batch, with and without gradient checkpointing, has a process of its own, so that
its peak of memory is its own. ``--dry-run`` does the same with the tiny model on the CPU: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu import RESULTS, Setup, environment, in_own_process
from torch import Tensor
from torch.utils.data import IterableDataset

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.mini.batches import Share
from ms_lab.training.adapter.batches import SampleBatch
from ms_lab.training.adapter.encoding import EncodedSample, SampleEncoder
from ms_lab.training.adapter.objective import NoiseObjective
from ms_lab.training.adapter.samples import PreparedSample
from ms_lab.training.adapter.stage import AdapterStage
from ms_lab.training.checkpoints import Snapshot
from ms_lab.training.dropout import DropRates
from ms_lab.training.loop import LOG, StageConfig, Trainer

MICRO_BATCHES = (1, 2, 4, 8, 16)
# Of a step; the paper has 8 on each of 16 GPUs.
PICTURES_A_STEP = 16
WARM_UP, STEPS = 2, 6
SUBJECTS = 2
RATES = DropRates(text=0.05, image=0.05, both=0.05, grounding=0.1)


class Unsaved:
    """Checkpoints of a run that nobody goes on with."""

    def write(self, snapshot: Snapshot) -> None: ...

    def note(self, facts: Mapping[str, Any]) -> None: ...

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None: ...


class SameSamples(IterableDataset[SampleBatch]):
    """Endless batches of the same encoded sample."""

    def __init__(self, sample: EncodedSample, share: Share) -> None:
        super().__init__()
        self.sample, self.share = sample, share

    def __iter__(self) -> Iterator[SampleBatch]:
        size = self.share.batch_size
        for number in self.share.numbers():
            yield SampleBatch((self.sample,) * size, tuple(range(number * size, (number + 1) * size)))


def random_sample(pipeline: MSDiffusionPipeline, side: int) -> PreparedSample:
    """Noise in the place of a target and its references."""
    reference = pipeline.conditioner.reader.preprocessor.crop_to
    boxes = torch.tensor([[0.05, 0.3, 0.5, 0.95], [0.55, 0.35, 0.95, 0.9]])
    return PreparedSample(
        image=torch.randint(256, (3, side, side), dtype=torch.uint8),
        references=torch.randn(SUBJECTS, 3, reference, reference),
        boxes=boxes,
        places=boxes,
        time_ids=torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32),
        caption="a dog and a teapot on a table in the garden",
        phrases=("dog", "teapot"),
    )


def encode(encoder: SampleEncoder, sample: PreparedSample, repeats: int) -> tuple[EncodedSample, float]:
    """The sample as the models read it, and how many of its kind they read in a second."""
    encoded = encoder.encode(sample)
    begun = time.perf_counter()
    for _ in range(repeats):
        # What a cache stores is fetched from the device.
        encoded = EncodedSample.from_tensors(encoder.encode(sample).tensors())
    return encoded, repeats / (time.perf_counter() - begun)


def measure(setup: Setup, micro_batch: int, checkpointing: bool) -> dict[str, Any]:
    """Steps of one way to divide a batch, in this process."""
    pipeline = setup.pipeline()
    if checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.unet.train()
    side = setup.size // 2
    encoder = SampleEncoder(pipeline)
    sample, encoded_per_s = encode(encoder, random_sample(pipeline, side), repeats=8)
    objective = NoiseObjective(pipeline.components.scheduler.config, 0.0)
    stage = AdapterStage(pipeline, objective, encoder.blanks(), RATES, seed=0)
    config = StageConfig(
        pictures=PICTURES_A_STEP * (WARM_UP + STEPS),
        batch_size=PICTURES_A_STEP,
        micro_batch_size=micro_batch,
        learning_rate=1e-4,
        warmup=1,
        decay=0.0,
        log_every=1,
        average_every=1,
    )
    # As in training on a cache, the encoders are away.
    with tempfile.TemporaryDirectory() as folder, pipeline.residency.switched("12gb"):
        trainer = Trainer(stage, config, Path(folder), setup.device, checkpoints=Unsaved(), loaders=0)
        trainer.run(lambda share: SameSamples(sample, share))
        rows = [json.loads(line) for line in (Path(folder) / LOG).read_text().splitlines()]
    return {
        **step_figures([row["seconds"] for row in rows if "loss" in row]),
        "encoded_per_s": encoded_per_s,
        **peak(setup),
    }


def step_figures(clock: list[float]) -> dict[str, float]:
    """Median of the steps after the warm-up, of the seconds that all steps had taken after each."""
    steps = [after - before for before, after in zip(clock[WARM_UP - 1 :], clock[WARM_UP:], strict=False)]
    seconds = statistics.median(steps)
    return {"seconds": seconds, "slowest_s": max(steps), "pictures_per_s": PICTURES_A_STEP / seconds}


def peak(setup: Setup) -> dict[str, float]:
    """Of the device's memory, in GB of 10^9 bytes."""
    if setup.device != "cuda":
        return {}
    return {
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
    }


def measure_apart(dry_run: bool, micro_batch: int, checkpointing: bool) -> dict[str, Any]:
    """The same in a process of its own; what does not fit says so."""
    asked: Mapping[str, Any] = {"micro_batch": micro_batch, "gradient_checkpointing": checkpointing}
    arguments = ["--micro-batch", str(micro_batch), *(["--checkpointing"] if checkpointing else [])]
    row = {**asked, **in_own_process(__file__, [*arguments, *(["--dry-run"] if dry_run else [])])}
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--out", type=Path, help="JSON file; by default below benchmarks/results")
    parser.add_argument("--micro-batch", type=int, help="only this one, in this process; prints one line of JSON")
    parser.add_argument("--checkpointing", action="store_true")
    arguments = parser.parse_args()
    setup = Setup.choose(arguments.dry_run)
    if arguments.micro_batch:
        print(json.dumps(measure(setup, arguments.micro_batch, arguments.checkpointing)))
        return
    out = arguments.out or RESULTS / ("gpu-training-dry-run.json" if arguments.dry_run else "gpu-training.json")
    results: dict[str, Any] = {**environment(setup, arguments.dry_run), "pictures_a_step": PICTURES_A_STEP, "rows": []}
    out.parent.mkdir(parents=True, exist_ok=True)
    for checkpointing in (True, False):
        for micro_batch in MICRO_BATCHES:
            results["rows"].append(measure_apart(arguments.dry_run, micro_batch, checkpointing))
            # A run that is cut off keeps what it has.
            out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"results in {out}")


if __name__ == "__main__":
    sys.exit(main())
