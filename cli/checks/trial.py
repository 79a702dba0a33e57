"""Makes one tiny picture on each device, in a child process: the whole way from files to pixels."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from cli.checks.child import Outcome, run_child
from cli.checks.section import Section
from ms_core.errors import StartupError
from ms_core.model_dir.inspection import Finding
from worker.devices import Device, lock_devices
from worker.models import FoundModel

# Long enough for SDXL from a slow disk, and for its one tiny picture on a CPU.
TIMEOUT_S = 1200.0

_REPORT = "Report it with the output of msd doctor --json."
_REMEDIES = {
    "device_out_of_memory": "Stop other programs that use the device or its memory, or use a device with more memory.",
    "insufficient_memory": "Stop other programs that use the device or its memory, or use a device with more memory.",
    "device_lost": "Restart the machine, or reset the device; the kernel's log (dmesg) says what happened to it.",
    "model_not_found": "Fetch the model again: msd download, or make it again: msd convert.",
    "checkpoint_mismatch": "Fetch the model again: msd download, or make it again: msd convert.",
    "wrong_image_encoder": "Fetch the model again: msd download, or make it again: msd convert.",
}


def try_picture(model: FoundModel, device: Device) -> Section:
    """Make one tiny picture with a model on a device, and report seconds and peak memory; not beside running workers."""
    try:
        locks = lock_devices([device])
    except StartupError as error:
        sentence = f"No picture was tried on {device.label}. {error.detail}"
        remedy = "Stop what runs there (press Ctrl-C where msd up runs), then run msd doctor again."
        return Section(
            (Finding.warning("device_taken", sentence, remedy),), {"model": model.name, "device": device.label}
        )
    try:
        outcome = run_child("cli.checks.trial_child", [str(model.directory)], device.environment(), TIMEOUT_S)
    finally:
        for lock in locks:
            lock.release()
    return judge_trial(outcome, model.name, device.label)


def judge_trial(outcome: Outcome, model: str, device: str) -> Section:
    """What the child's end means."""
    facts: dict[str, Any] = {"model": model, "device": device, **(outcome.told or {})}
    if outcome.told is None:
        facts["output"] = list(outcome.output)
        return Section((_judge_ending(outcome, model, device),), facts)
    error = outcome.told.get("error")
    if error is not None:
        return Section((_judge_error(error, model, device),), facts)
    return Section((_judge_picture(outcome.told, device),), facts)


def _judge_picture(told: Mapping[str, Any], device: str) -> Finding:
    size = f"{told['width']} x {told['height']}, {told['steps']} steps"
    if told["is_flat"]:
        sentence = f"The picture ({size}) has only one colour: {device} computed no valid numbers."
        remedy = f"Update the device's driver and torch, and test its memory. {_REPORT}"
        return Finding.error("flat_picture", sentence, remedy)
    return Finding.ok(
        f"A picture of {size}: {told['picture_s']:.1f} s, after {told['load_s']:.1f} s of loading; "
        f"peak memory {told['peak_bytes'] / 2**30:.1f} GiB in memory mode {told['memory_mode']}."
    )


def _judge_error(error: Mapping[str, str], model: str, device: str) -> Finding:
    sentence = f"{model} makes no picture on {device}: {error['detail']}"
    if error["code"] == "device_out_of_memory":
        sentence = f"{model} does not fit into the free memory of {device}."
    return Finding.error(error["code"], sentence, _REMEDIES.get(error["code"], f"Follow that advice. {_REPORT}"))


def _judge_ending(outcome: Outcome, model: str, device: str) -> Finding:
    """A process that told nothing: killed, crashed, hung, or ended by an error that is not ours."""
    sentence = f"{model} makes no picture on {device}: its process {outcome.ending}."
    if outcome.killed_by == signal.SIGKILL:
        remedy = (
            "Most likely the machine ran out of memory: stop other programs, or give the machine or container more."
        )
        return Finding.error("trial_killed", sentence, remedy)
    if outcome.killed_by is not None:
        remedy = f"torch or the driver crashed: install torch again, and update the driver. {_REPORT}"
        return Finding.error("trial_crashed", sentence, remedy)
    return Finding.error("trial_failed", sentence, f"See the message. {_REPORT}")
