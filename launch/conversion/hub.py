"""Pushes an exported folder to the Hugging Face hub, or to the server that HF_ENDPOINT names."""

from pathlib import Path
from typing import Any

from ..configuration import flags
from ..process.errors import ConfigurationError


def check(repository: str, private: bool = False) -> None:
  """Checks, before anything is exported, that the hub accepts the token and the name.

  Args:
    repository: "USER/NAME" or "ORGANISATION/NAME".
    private: whether nobody else may see what is pushed.

  Raises:
    ConfigurationError: the name is none, nobody is logged in, the token may only read, the hub
      cannot be reached, or the repository exists and is public although it has to be private.
  """
  hub = _imported()
  owner, slash, name = repository.partition("/")
  try:
    hub.utils.validate_repo_id(repository)
  except ValueError:  # HFValidationError
    slash = ""
  if not (owner and slash and name):
    raise ConfigurationError(
      f"--push_to_hub={repository} is no name of a repository; write USER/NAME, such as "
      "--push_to_hub=me/my-model."
    )
  if not hub.get_token():
    raise ConfigurationError(
      "--push_to_hub needs a token of the Hugging Face hub with the right to write: start "
      "`hf auth login`, or set HF_TOKEN."
    )
  api = hub.HfApi()
  try:
    token = api.whoami().get("auth", {}).get("accessToken", {})
    public = private and api.repo_exists(repository) and not api.repo_info(repository).private
  except Exception as error:  # Its errors, those of the network, and those of OSError.
    raise ConfigurationError(
      f"The Hugging Face hub does not accept the token, or cannot be reached: {_first_line(error)}"
    ) from error
  if token.get("role") == "read":
    raise ConfigurationError(
      "The token of the Hugging Face hub may only read; make one that may write, and start "
      "`hf auth login`, or set HF_TOKEN."
    )
  if public:
    raise ConfigurationError(
      f"--private: {repository} exists and is public. Choose another name, or make it private on "
      "its page."
    )


def push(folder: Path, repository: str, private: bool) -> str:
  """Uploads a folder as one commit; makes the repository if there is none.

  Returns:
    the address of the repository.

  Raises:
    ConfigurationError: it could not be uploaded; the folder stays as it is.
  """
  api = _imported().HfApi()
  try:
    url = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of t5x_style")
  except Exception as error:
    again = f"hf upload {repository} {flags.quoted(str(folder))}"
    raise ConfigurationError(
      f"{folder} is complete, but it could not be pushed to {repository}: {_first_line(error)} "
      f"To push it later: {again}"
    ) from error
  return str(url)


def _imported() -> Any:
  try:
    import huggingface_hub
    import huggingface_hub.utils
  except ImportError as error:
    raise ConfigurationError(
      "--push_to_hub needs the package huggingface_hub: pip install 't5x_style[interop]'."
    ) from error
  return huggingface_hub


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0].rstrip(".") + "."
