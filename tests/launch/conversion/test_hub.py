"""Pushing to the Hugging Face hub, of which a small server stands in here."""

import base64
import http.server
import json
import threading

import pytest

from launch.conversion import hub
from launch.process.errors import ConfigurationError

constants = pytest.importorskip("huggingface_hub.constants")


class _Hub(http.server.BaseHTTPRequestHandler):
  """The requests of one upload. Files go into `server.files`, repositories into `server.made`."""

  def log_message(self, *_):
    pass

  def _answer(self, values, code=200, error=""):
    content = json.dumps(values).encode()
    self.send_response(code)
    self.send_header("Content-Type", "application/json")
    if error:
      self.send_header("X-Error-Code", error)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def do_GET(self):
    if self.headers.get("Authorization") != "Bearer hf_right":
      return self._answer({"error": "Invalid user token."}, 401)
    if self.path.startswith("/api/models/"):
      if self.server.public is None:
        return self._answer({"error": "Repository not found"}, 404, "RepoNotFound")
      facts = {"id": "me/small-t5", "private": not self.server.public, "siblings": []}
      return self._answer(facts | {"sha": "0" * 40})
    role = {"accessToken": {"role": self.server.role}}
    return self._answer({"name": "me", "type": "user", "auth": role})

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"])).decode()
    if self.path == "/api/repos/create":
      self.server.made.append(json.loads(body))
      return self._answer({"url": f"{constants.ENDPOINT}/me/{json.loads(body)['name']}"})
    if self.path.endswith("/preupload/main"):
      names = [file["path"] for file in json.loads(body)["files"]]
      files = [{"path": x, "uploadMode": "regular", "shouldIgnore": False} for x in names]
      return self._answer({"files": files})
    if self.server.full:
      return self._answer({"error": "You have no room left"}, 403)
    for entry in map(json.loads, body.splitlines()):
      if entry["key"] == "file":
        self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
    return self._answer(
      {"commitUrl": f"{constants.ENDPOINT}/me/small-t5/commit/1", "commitOid": "1" * 40}
    )


@pytest.fixture
def server(monkeypatch):
  """A hub on this machine, to which huggingface_hub talks."""
  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
  running.files, running.made, running.full = {}, [], False
  running.role, running.public = "write", None  # None: there is no such repository.
  threading.Thread(target=running.serve_forever, daemon=True).start()
  address = f"http://127.0.0.1:{running.server_port}"
  monkeypatch.setattr(constants, "ENDPOINT", address)
  monkeypatch.setenv("HF_TOKEN", "hf_right")
  yield running
  running.shutdown()


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "exported").mkdir()
  (tmp_path / "exported/config.json").write_text('{"model_type": "t5"}')
  (tmp_path / "exported/model.safetensors").write_bytes(bytes(range(256)) * 40)
  return tmp_path / "exported"


def test_every_file_arrives_as_it_is(server, folder):
  hub.check("me/small-t5")
  assert "me/small-t5" in hub.push(folder, "me/small-t5", private=True)
  assert server.files == {path.name: path.read_bytes() for path in folder.iterdir()}
  (made,) = server.made
  assert made["name"] == "small-t5" and made["organization"] == "me"
  assert made.get("private") is True or made.get("visibility") == "private"


@pytest.mark.parametrize("name", ["my-model", "/x", "me/", "me/a model", "a/b/c", "me/x--y"])
def test_names_that_are_none(server, name):
  with pytest.raises(ConfigurationError, match="is no name of a repository; write USER/NAME"):
    hub.check(name)


def test_without_a_token_and_with_a_wrong_one(server, monkeypatch, tmp_path):
  monkeypatch.setenv("HF_TOKEN", "hf_wrong")
  with pytest.raises(ConfigurationError, match="does not accept the token, or cannot be reached"):
    hub.check("me/small-t5")
  monkeypatch.delenv("HF_TOKEN")
  monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
  with pytest.raises(ConfigurationError, match="hf auth login"):
    hub.check("me/small-t5")


def test_a_token_that_may_only_read(server):
  server.role = "read"
  with pytest.raises(ConfigurationError, match="may only read"):
    hub.check("me/small-t5")


@pytest.mark.parametrize(("public", "refused"), [(None, False), (False, False), (True, True)])
def test_private_weights_do_not_go_to_a_public_repository(server, public, refused):
  server.public = public
  hub.check("me/small-t5")
  if refused:
    with pytest.raises(ConfigurationError, match="exists and is public"):
      hub.check("me/small-t5", private=True)
  else:
    hub.check("me/small-t5", private=True)


def test_a_push_that_fails_names_the_folder_and_the_command(server, folder):
  server.full = True
  with pytest.raises(ConfigurationError, match="is complete, but.*hf upload me/small-t5 /"):
    hub.push(folder, "me/small-t5", private=False)
  assert (folder / "config.json").exists()
