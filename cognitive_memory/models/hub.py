"""The Hugging Face hub and its cache: files of a repository at one commit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core.errors import ModelDownloadError, ModelIntegrityError
from ..core.model_files import record_file
from .convert import SOURCE_FILES
from .registry import ModelRecipe

_SHA256 = re.compile(r"[0-9a-f]{64}")


def find_in_cache(recipe: ModelRecipe) -> tuple[Path, str] | None:
    """The snapshot of all files that another program left, if there is one, and its commit.

    No socket is opened.
    """
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for name in SOURCE_FILES:
        found = try_to_load_from_cache(recipe.repository, name, revision=recipe.revision)
        if not isinstance(found, str):
            return None
        path = Path(found)
        folder = path.parent
        if not _is_as_named(path):
            return None
    return (folder, folder.name) if folder is not None else None


def _is_as_named(path: Path) -> bool:
    """Whether a file of the cache has the SHA-256 that the hub gave it for a name, if it did."""
    blob = path.resolve().name
    return not _SHA256.fullmatch(blob) or record_file(path).sha256 == blob


def download_from_hub(recipe: ModelRecipe, scratch: Path, progress: bool) -> tuple[Path, str]:
    """The folder below ``scratch`` that the files were put in, and the commit they are of.

    Raises ``ModelDownloadError``, and ``ModelIntegrityError`` for bytes that were not announced.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if progress else disable_progress_bars)()
    folder = scratch / "hub"

    def describe(name: str, revision: str) -> Any:
        url = hf_hub_url(recipe.repository, name, revision=revision)
        return get_hf_file_metadata(url, timeout=10)

    # Below its own errors lie those of the HTTP library, another one in each major version, and
    # the storage client hf_xet raises bare RuntimeErrors.
    errors: tuple[type[Exception], ...] = (
        *(OSError, RuntimeError, ValueError),
        *HfHubHTTPError.__bases__,
    )
    try:
        # Asked once: the download itself tries an unreachable hub again for half a minute.
        asked = describe("config.json", recipe.revision or "main")
        commit = recipe.revision or asked.commit_hash
        if commit is None:
            raise ModelDownloadError(f"it names no commit of {recipe.repository}")
        etags = {}
        for name in SOURCE_FILES:
            if name not in recipe.files:
                etags[name] = describe(name, commit).etag
            hf_hub_download(recipe.repository, name, revision=commit, local_dir=folder)
    except errors as error:
        raise ModelDownloadError(_first_line(error)) from None
    _check_etags(folder, etags)
    return folder, commit


def _check_etags(folder: Path, etags: dict[str, str | None]) -> None:
    """What the hub says of a large file is its SHA-256, of a small one that of another format."""
    for name, etag in etags.items():
        if etag is not None and _SHA256.fullmatch(etag):
            actual = record_file(folder / name).sha256
            if actual != etag:
                raise ModelIntegrityError(
                    f"{name} has SHA-256 {actual[:12]}… and the hub announced {etag[:12]}…"
                )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
