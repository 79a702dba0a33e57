"""Speed and memory of the full-size model with random weights; run by ``benchmarks/gpu.sh``, see there.

Two subjects, 1024 x 1024, 30 Euler steps, guidance on. Every comparison is made within one process. ``--dry-run`` does the
same with the tiny model on the CPU and one memory mode of the three, to see that it works: its figures mean nothing, and the
JSON says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from plain_attention import PlainSubjects, plain_processors
from random_sdxl import FULL, TINY, SDXLConfig, sdxl_parts

from ms_core.config import ModelCard
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from ms_core.spec.resolve import resolve_batch

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 2, 4, 8)
MODES = ("24gb", "12gb", "8gb")
MODE_BYTES = {"24gb": 24e9, "12gb": 12e9, "8gb": 8e9}
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft")
PROMPT = "a dog and a teapot on a table in the garden, best quality"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and where."""

    config: SDXLConfig
    device: str
    dtype: torch.dtype
    steps: int
    repeats: int
    modes: tuple[str, ...]

    @classmethod
    def choose(cls, dry_run: bool) -> Setup:
        if dry_run:
            return cls(TINY, "cpu", torch.float32, steps=3, repeats=1, modes=("8gb",))
        if not torch.cuda.is_available():
            sys.exit("gpu.py: torch sees no CUDA device; --dry-run does the same with tiny sizes on the CPU.")
        return cls(FULL, "cuda", torch.bfloat16, steps=30, repeats=3, modes=MODES)

    @property
    def size(self) -> int:
        return self.config.card.defaults.height

    def pipeline(self, memory: Any = None) -> MSDiffusionPipeline:
        home = "cpu" if memory in ("12gb", "8gb") else None
        parts = sdxl_parts(self.config, self.dtype, self.device, home)
        return MSDiffusionPipeline(parts, self.device, memory)

    def specs(self, count: int) -> list[GenerationSpec]:
        pictures = [Image.effect_noise((512, 512), 64 + 32 * number).convert("RGB") for number in range(2)]
        subjects = (
            Subject("dog", pictures[0], Box(0.05, 0.3, 0.5, 0.95)),
            Subject("teapot", pictures[1], Box(0.55, 0.35, 0.95, 0.9)),
        )
        return [GenerationSpec(PROMPT, subjects, seed=seed, num_inference_steps=self.steps) for seed in range(count)]


def measure(setup: Setup, work: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of the repeats after one run that is not counted, and the peak of the device's memory in GB."""
    work()
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for _ in range(setup.repeats):
        _wait(setup)
        started = time.perf_counter()
        work()
        _wait(setup)
        seconds.append(time.perf_counter() - started)
    figures = {"seconds": statistics.median(seconds), "fastest_s": min(seconds), "slowest_s": max(seconds)}
    if setup.device == "cuda":
        figures["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        figures["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return figures


def measure_batches(setup: Setup) -> list[dict[str, float]]:
    """Whole pictures, from spec to pixels, at several batch sizes."""
    pipeline = setup.pipeline()
    rows: list[dict[str, float]] = []
    for count in BATCHES:
        specs = setup.specs(count)
        figures = measure(setup, lambda specs=specs: pipeline.run(specs))
        rows.append({"batch": count, **figures, "pictures_per_s": count / figures["seconds"]})
        print(f"batch {count}: {figures['seconds']:.3f} s", flush=True)
    return rows


def measure_mode(setup: Setup, mode: str) -> dict[str, Any]:
    """One picture in a memory mode, in a process that may take no more than the mode promises."""
    if setup.device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, MODE_BYTES[mode] / total))
    pipeline = setup.pipeline(mode)
    specs = setup.specs(1)
    codes = {warning.code for warning in pipeline.run(specs)[0].warnings}
    if "memory_retry" in codes:
        sys.exit(f"mode {mode}: the picture did not fit and was made in a smaller mode")
    return {"mode": mode, "limit_gb": MODE_BYTES[mode] / 1e9, **measure(setup, lambda: pipeline.run(specs))}


def measure_against_plain(setup: Setup) -> dict[str, Any]:
    """The same request by our pipeline, by the plain reference path, and by diffusers without subjects."""
    pipeline = setup.pipeline()
    spec = setup.specs(1)[0]
    ours = measure(setup, lambda: pipeline.run(spec))
    latents = pipeline.run(spec)[0].latents
    batch = resolve_batch([spec], pipeline.card)
    with torch.no_grad():
        data = pipeline.conditioner.encode(batch).attention_data
    request = PlainSubjects(data.subjects, data.latents_size)
    pipeline.adapter.uninstall(pipeline.unet)
    sdxl = diffusers_call(setup, pipeline, spec)
    plain_sdxl = measure(setup, lambda: sdxl("pil"))
    pipeline.unet.set_attn_processor(plain_processors(pipeline.unet, pipeline.adapter, request))
    reference = measure(setup, lambda: sdxl("pil"))
    difference = (sdxl("latent").float().cpu() - latents).abs().max()
    return {
        "ours": ours,
        "plain_reference": reference,
        "plain_sdxl": plain_sdxl,
        "ratio_to_plain_reference": ours["seconds"] / reference["seconds"],
        "ratio_to_plain_sdxl": ours["seconds"] / plain_sdxl["seconds"],
        "latents_max_difference_to_plain_reference": float(difference),
        "latents_standard_deviation": float(latents.std()),
    }


def diffusers_call(setup: Setup, pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> Callable[[str], Any]:
    """The spec's text by diffusers' own pipeline, from the same noise; what it gives is of the asked output type."""
    card, side = pipeline.card, setup.size // 8
    noise = torch.randn(1, 4, side, side, generator=torch.Generator("cpu").manual_seed(spec.seed))
    pipeline.components.set_progress_bar_config(disable=True)

    def call(output_type: str) -> Any:
        return pipeline.components(
            prompt=spec.prompt,
            negative_prompt=card.defaults.negative_prompt,
            height=setup.size,
            width=setup.size,
            num_inference_steps=setup.steps,
            guidance_scale=card.defaults.guidance_scale,
            latents=noise.to(setup.device, setup.dtype),
            output_type=output_type,
        ).images

    return call


def environment(setup: Setup, dry_run: bool) -> dict[str, Any]:
    """Hardware, versions and commit."""
    device = torch.cuda.get_device_name() if setup.device == "cuda" else platform.processor() or platform.machine()
    return {
        "dry_run": dry_run,
        "note": "tiny sizes on the CPU: these figures mean nothing" if dry_run else "random weights at full size",
        "device": device,
        "cuda": torch.version.cuda,
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "workload": {
            "height": setup.size,
            "width": setup.size,
            "steps": setup.steps,
            "subjects": 2,
            "scheduler": ModelCard().defaults.scheduler,
            "dtype": str(setup.dtype).removeprefix("torch."),
            "repeats": setup.repeats,
        },
    }


def _measure_modes(setup: Setup, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each mode in a fresh process, so that its memory limit and its peak are its own."""
    rows: list[dict[str, Any]] = []
    for mode in setup.modes:
        own = ["--mode", mode, *(["--dry-run"] if arguments.dry_run else [])]
        rows.append({"mode": mode, **in_own_process(__file__, own)})
        print(f"mode {mode}: {rows[-1]}", flush=True)
    return rows


def in_own_process(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The JSON that a script prints last, or the last line of why it failed."""
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit code {result.returncode}"}
    return json.loads(result.stdout.splitlines()[-1])


def _wait(setup: Setup) -> None:
    if setup.device == "cuda":
        torch.cuda.synchronize()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "rev-parse", "--short", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return result.stdout.strip() or None


def main() -> None:
    """Measure, and write the results as they come: a run that is cut off keeps what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--out", type=Path, help="JSON file; by default below benchmarks/results")
    parser.add_argument("--mode", choices=MODES, help="only this memory mode; prints one line of JSON")
    arguments = parser.parse_args()
    setup = Setup.choose(arguments.dry_run)
    if arguments.mode:
        print(json.dumps(measure_mode(setup, arguments.mode)))
        return
    out = arguments.out or RESULTS / ("gpu-dry-run.json" if arguments.dry_run else "gpu.json")
    results = environment(setup, arguments.dry_run)
    sections: dict[str, Callable[[], Any]] = {
        "batches": lambda: measure_batches(setup),
        "comparison": lambda: measure_against_plain(setup),
        "memory_modes": lambda: _measure_modes(setup, arguments),
    }
    for name, section in sections.items():
        results[name] = section()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        if setup.device == "cuda":
            torch.cuda.empty_cache()
    print(f"results in {out}")


if __name__ == "__main__":
    main()
