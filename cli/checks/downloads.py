"""Finds interrupted downloads in the hub's cache on this machine."""

from __future__ import annotations

from pathlib import Path

from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding
from ms_core.model_dir.inspection.headers import format_size


def check_downloads() -> Section:
    """Find what ``msd download`` began and did not finish."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    from ms_core.model_dir.provision.repositories import ADAPTER, BASE, EXTRAS, IMAGE_ENCODERS, VAE

    cache = Path(constants.HF_HUB_CACHE)
    parts = [BASE, VAE, ADAPTER, *IMAGE_ENCODERS.values(), *(extra.part for extra in EXTRAS.values())]
    begun = {
        name: sizes
        for name in dict.fromkeys(part.repository for part in parts)
        if (sizes := _unfinished(cache / repo_folder_name(repo_id=name, repo_type="model")))
    }
    facts = {"cache": str(cache), "unfinished": begun}
    if not begun:
        return Section((Finding.ok(f"No interrupted downloads (cache: {cache})."),), facts)
    return Section(tuple(_tell(name, sum(sizes)) for name, sizes in begun.items()), facts)


def _unfinished(folder: Path) -> list[int]:
    """Sizes of the files that are half there."""
    found = [file.stat().st_size for file in (folder / "blobs").glob("*.incomplete")]
    return [size for size in found if size]


def _tell(repository: str, size: int) -> Finding:
    sentence = f"A download of {repository} is not complete: it has {format_size(size)} of a file."
    remedy = "Unless it is running now, run the same command again to continue, such as: msd download sdxl."
    return Finding.warning("download_unfinished", sentence, remedy)
