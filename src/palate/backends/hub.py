"""To and from the Hugging Face Hub, or a folder that stands in for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

import httpx

from palate.errors import InputError, StorageError

__all__ = ["fetch", "local_target", "upload"]


def local_target(repo_id: str) -> Path | None:
    """The folder that `repo_id` names, None where it is a name on the hub.

    A folder begins with `file://`, `/`, `./`, `../` or `~`, so that "me/model" always means the hub.
    """
    if repo_id.startswith("file://"):
        return Path(unquote(urlparse(repo_id).path))
    path = Path(repo_id).expanduser()
    return path if path.is_absolute() or repo_id.startswith(("./", "../", "~")) or repo_id in (".", "..") else None


def upload(folder: Path, repo_id: str, *, private: bool | None = None, token: str | None = None, message: str) -> str:
    """Put the files of a folder into a repository, which is made where it is missing.

    Args:
        folder: whose files.
        repo_id: "owner/name" on the hub, or a local folder, see `local_target`.
        private: visibility of a repository that is made; None for the owner's default.
        token: of the hub; None takes the one that is logged in, or HF_TOKEN.
        message: of the commit.

    Returns:
        The address of the commit, or the local folder.

    Raises:
        InputError: the hub refuses the name or the token, or cannot be reached.
        StorageError: the local folder cannot be written.
    """
    target = local_target(repo_id)
    if target is not None:
        try:
            shutil.copytree(folder, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise StorageError(f"{target}: cannot be written ({reason}); choose another folder") from None
        return str(target)
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _asking(repo_id):
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message).commit_url)


def fetch(name: str) -> Path:
    """The folder of a saved model: a local one as it is, "owner/name" fetched from the hub to its cache.

    Raises:
        InputError: there is neither such a folder nor such a repository.
    """
    path = local_target(name) or Path(name)
    if path.exists() or local_target(name) is not None or name.count("/") != 1:
        return path
    from huggingface_hub import snapshot_download

    with _asking(name):
        return Path(snapshot_download(name))


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise InputError(
            f"{name}: no such repository, or none that you may see; write owner/name, or ./folder for a local one"
        ) from None
    except errors.LocalTokenNotFoundError:
        raise InputError(f"{name}: nobody is logged in to the hub; run `hf auth login`, or set HF_TOKEN") from None
    except (errors.HfHubHTTPError, OSError, httpx.HTTPError) as error:
        words = " ".join(str(error).split())[:160]
        raise InputError(
            f"{name}: the hub cannot be asked ({words}); check network and token, or use ./folder"
        ) from None
