"""Upload of a trained model or pipeline."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import create_repo, upload_folder
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from ..loading.hub import model_card
from ..loading.local import read_json_object
from ..loading.pipelines import PIPELINE_FILE, PIPELINE_FILE_NAME
from ..pipelines import NNiTPipeline
from ..writing import write_bytes


def check_upload(repo_id: str) -> None:
    """Creates the repository, so that a wrong name or token is noticed before hours of training.

    Raises:
        `ValueError`: If the name is not one that the Hub takes, or the token may not write there.
    """
    try:
        create_repo(repo_id, exist_ok=True)
    except (HFValidationError, HfHubHTTPError, LocalTokenNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`hub_model_id` must be a repository that your token may write to, but received {repo_id!r}: {reason}"
        ) from error


def upload(folder: str | Path, repo_id: str) -> str:
    """Uploads a trained model or pipeline, with a model card that shows how to load it.

    Parameters:
        folder (`str` or `Path`): Folder of the model or pipeline.
        repo_id (`str`): Name of the repository; it is created if it does not exist.

    Returns:
        `str`: URL of the commit.
    """
    repo_id = create_repo(repo_id, exist_ok=True).repo_id
    is_pipeline = Path(folder, NNiTPipeline.config_name).exists()
    config = read_json_object(Path(folder, NNiTPipeline.config_name if is_pipeline else "config.json"))
    model_card(repo_id, config["_class_name"]).save(Path(folder) / "README.md")
    if is_pipeline:
        write_bytes(Path(folder, PIPELINE_FILE_NAME), PIPELINE_FILE.encode())
    return upload_folder(repo_id=repo_id, folder_path=folder, commit_message="End of training").commit_url
