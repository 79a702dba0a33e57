"""Whether torch is there, and whether its build, the driver and the devices belong together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cli.checks.child import Outcome, run_child
from cli.checks.gpus import Gpu, GpuList, names
from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding

PROBE_TIMEOUT_S = 180.0
PACKAGES = ("accelerate", "diffusers", "numpy", "safetensors", "tokenizers", "transformers")

_INSTALL = "Install what a worker needs: make install (or: pip install 'ms-diffusion-service[worker]')."
_SMI = "See whether nvidia-smi lists the device; in a container, start it with all GPUs (docker run --gpus all)."


def probe_torch() -> Outcome:
    """What the probe's process reports about torch."""
    return run_child("cli.checks.torch_probe", [], {}, PROBE_TIMEOUT_S)


def check_torch(outcome: Outcome, found: GpuList, device: str) -> Section:
    """Judge what the probe told.

    Args:
        outcome: of the probe.
        found: what NVML lists.
        device: the setting MSD_DEVICE: ``auto``, ``cpu`` or ``cuda``.
    """
    told = outcome.told
    if told is None:
        sentence = f"torch cannot be loaded: its process {outcome.ending}."
        remedy = f"Install it again ({_INSTALL.split(': ', 1)[1].rstrip('.')}); with a GPU, also look at its driver."
        return Section((Finding.error("torch_crashed", sentence, remedy),), {"output": list(outcome.output)})
    facts = {**told, "packages": _versions()}
    if "problem" in told:
        return Section((_not_importable(told),), facts)
    missing = [name for name, found_version in facts["packages"].items() if found_version is None]
    findings = [_judge(told, found, device), *_device_problems(told)]
    if missing:
        findings.append(
            Finding.error("packages_missing", f"These packages are not installed: {', '.join(missing)}.", _INSTALL)
        )
    return Section(tuple(findings), facts)


def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _not_importable(told: Mapping[str, Any]) -> Finding:
    if told["missing"]:
        sentence = "torch is not installed; without it this machine can serve the API, but make no pictures."
        return Finding.error("torch_missing", sentence, _INSTALL)
    sentence = f"torch is installed but cannot be loaded: {told['problem']}."
    return Finding.error("torch_broken", sentence, f"Its files do not fit together; install it again. {_INSTALL}")


def _judge(told: Mapping[str, Any], found: GpuList, device: str) -> Finding:
    """Whether torch uses the devices that there are."""
    build = f"torch {told['version']} ({'CUDA ' + told['cuda'] if told['cuda'] else 'for the CPU'})"
    if device == "cpu":
        return Finding.ok(f"{build}; MSD_DEVICE=cpu keeps it on the CPU, with {told['threads']} threads.")
    if told["available"]:
        return _judge_usable(build, told, found)
    if not found.gpus:
        if device == "cuda":
            return Finding.error("no_cuda_device", f"{build}; MSD_DEVICE=cuda, but there is no CUDA device.", _SMI)
        return Finding.ok(f"{build} runs on the CPU, with {told['threads']} threads.")
    return _judge_unused(build, told, found.gpus, found)


def _judge_usable(build: str, told: Mapping[str, Any], found: GpuList) -> Finding:
    count = len(told["devices"])
    if not found.gpus:
        sentence = f"{build} sees {count} CUDA devices, but NVML lists none, so workers would start on the CPU."
        return Finding.error(
            "nvml_missing", sentence, "Install nvidia-ml-py (make install), and see what nvidia-smi says."
        )
    driver = "" if found.driver is None else f" with driver {found.driver}"
    return Finding.ok(f"{build} can use {count} CUDA device{'s' if count > 1 else ''}{driver}.")


def _judge_unused(build: str, told: Mapping[str, Any], gpus: tuple[Gpu, ...], found: GpuList) -> Finding:
    """Devices that torch cannot use: why, and what to do."""
    if told["cuda"] is None:
        public = told["version"].partition("+")[0]
        return Finding.error(
            "torch_for_cpu",
            f"{build} cannot use the {names(gpus)} in this machine.",
            f"Install torch's CUDA build (on Linux: pip install --force-reinstall torch=={public}), or set "
            "MSD_DEVICE=cpu to make pictures on the CPU.",
        )
    narrowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if narrowed is not None and _hides_all(narrowed, gpus):
        sentence = f"CUDA_VISIBLE_DEVICES={narrowed!r} hides every device ({names(gpus)}) from torch."
        return Finding.error("devices_hidden", sentence, "Unset it, or name a device in it by number or UUID.")
    if found.driver_cuda is not None and _major(told["cuda"]) > found.driver_cuda[0]:
        newest = ".".join(map(str, found.driver_cuda))
        return Finding.error(
            "driver_too_old",
            f"The NVIDIA driver {found.driver} is too old for {build}: it knows CUDA up to {newest}.",
            f"Update the driver to one for CUDA {_major(told['cuda'])}, or install a torch built for CUDA {newest} "
            "or older.",
        )
    reason = f" It says: {told['warnings'][0].splitlines()[0]}" if told["warnings"] else ""
    return Finding.error("cuda_unusable", f"{build} cannot use the {names(gpus)} in this machine.{reason}", _SMI)


def _device_problems(told: Mapping[str, Any]) -> list[Finding]:
    """Devices on which the probe's small sum failed."""
    findings: list[Finding] = []
    for device in told["devices"]:
        problem = device["problem"]
        if problem is None:
            continue
        name, capability = device.get("name", f"device {device['index']}"), device.get("capability", "?")
        if "no kernel image" in problem:
            sentence = f"torch {told['version']} has no code for the {name} (compute capability {capability})."
            remedy = "Install a torch build that supports it: an older one for old devices, a newer one for new ones."
        else:
            sentence = f"torch cannot compute on the {name}: {problem}"
            remedy = "Stop other programs that use the device, or restart the machine; dmesg may say more."
        findings.append(Finding.error("device_unusable", sentence, remedy))
    return findings


def _hides_all(narrowed: str, gpus: tuple[Gpu, ...]) -> bool:
    """Whether the first entry names no device, which is what makes CUDA see none."""
    first = narrowed.split(",")[0].strip()
    if first.isdigit():
        return int(first) >= len(gpus)
    return not first or not any(gpu.uuid.startswith(first) for gpu in gpus)


def _major(cuda: str) -> int:
    return int(cuda.partition(".")[0])
