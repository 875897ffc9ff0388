"""A stand-in for the Hugging Face Hub on this machine: what the real client reads and uploads, kept in memory.

    with LoopbackHub() as hub:
        hub.publish("nnit/tiny", folder)
        hub.run("from nnit_diffusers import NNiTPipeline; ...", cache)

It speaks the Hub's HTTP protocol: metadata, trees, files (with ranges), private repositories, and uploads by commits
and Git LFS. Xet, a second way for large files, is switched off in `run`, as it is wherever `hf_xet` is not
installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub.repocard import ModelCard
from huggingface_hub.utils.sha import git_hash


TOKEN = "hf_loopback"
USER = "someone"
_LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")


@dataclass
class Repository:
    """Files by their names at every revision; a commit is a revision that does not change."""

    is_private: bool = False
    revisions: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})

    def commit_of(self, revision: str) -> str:
        """The commit that a branch points to."""
        digest = hashlib.sha1()
        for name, content in sorted(self.revisions[revision].items()):
            digest.update(name.encode() + b"\0" + content + b"\0")
        return digest.hexdigest()

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        """Lets a branch point to these files."""
        self.revisions[revision] = files
        commit = self.commit_of(revision)
        self.revisions[commit] = files
        return commit


class LoopbackHub(AbstractContextManager):
    """Serves repositories while the context lasts.

    Attributes:
        endpoint (`str`): For `HF_ENDPOINT`.
        repositories (`dict[tuple[str, str], Repository]`): By type (`"model"`, `"dataset"`) and name.
        requests (`list[str]`): `"METHOD path"` of all that was asked for, with the range if it was only a part.
        cuts (`dict[str, list[int]]`):
            By repository and file, as in `"nnit/tiny/config.json"`: after how many bytes its next downloads are cut
            off.
        goes_down_at (`str`, *optional*):
            Part of a path: from the first request for it on, connections are closed without an answer.
    """

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # what was uploaded by LFS, by its SHA-256
        self.requests: list[str] = []
        self.cuts: dict[str, list[int]] = defaultdict(list)
        self.goes_down_at: str | None = None
        self.is_down = False
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def publish(
        self, repo_id: str, folder: str | Path, repo_type: str = "model", revision: str = "main", is_private=False
    ) -> Repository:
        """Makes a folder what a branch of a repository holds."""
        repository = self.repositories.setdefault((repo_type, repo_id), Repository(is_private))
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        repository.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, revision)
        return repository

    def environment(self, cache: str | Path, is_offline: bool = False) -> dict[str, str]:
        """That of a process that knows no other Hub and no token."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {
            **known,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": str(int(is_offline)),
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, code: str, cache: str | Path, is_offline: bool = False) -> Any:
        """What `code` prints last, as JSON, in a fresh process."""
        environment = self.environment(cache, is_offline)
        process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])


_Route = Callable[..., None]
_ROUTES: list[tuple[str, re.Pattern, _Route]] = []
_API = r"/api/(?P<kind>model|dataset)s/(?P<repo_id>[^/]+/[^/]+)"
_PAGE = r"(?P<datasets>/datasets)?/(?P<repo_id>[^/]+/[^/]+?)"


def _route(methods: str, pattern: str) -> Callable[[_Route], _Route]:
    def register(answer: _Route) -> _Route:
        _ROUTES.extend((method, re.compile(pattern), answer) for method in methods.split())
        return answer

    return register


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_) -> None:
        """Keeps the test's output quiet."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        self.hub.is_down |= self.hub.goes_down_at is not None and self.hub.goes_down_at in path
        if self.hub.is_down:
            self.close_connection = True
            return
        for method, pattern, answer in _ROUTES:
            match = pattern.fullmatch(path)
            if method == self.command and match:
                answer(self, **match.groupdict())
                return
        self._fail(404, "no such page")

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    @_route("GET", _API + r"(/revision/(?P<revision>.+))?")
    def _answer_info(self, kind: str, repo_id: str, revision: str | None) -> None:
        repository = self._repository(kind, repo_id, revision or "main")
        if repository is not None:
            siblings = [{"rfilename": name} for name in repository.revisions[revision or "main"]]
            commit = repository.commit_of(revision or "main")
            info = {"_id": repo_id, "id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
            self._send_json({**info, "private": repository.is_private, "tags": []})

    @_route("GET", _API + r"/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
    def _answer_tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> None:
        repository = self._repository(kind, repo_id, revision)
        if repository is not None:
            self._send_json(list(_tree(repository.revisions[revision], folder)))

    @_route("GET HEAD", _PAGE + r"/resolve/(?P<revision>[^/]+)/(?P<filename>.+)")
    def _answer_file(self, datasets: str | None, repo_id: str, revision: str, filename: str) -> None:
        repository = self._repository("dataset" if datasets else "model", repo_id, revision)
        if repository is None:
            return
        headers = {"X-Repo-Commit": repository.commit_of(revision)}
        content = repository.revisions[revision].get(filename)
        if content is None:
            self._fail(404, "EntryNotFound", headers)
            return
        headers |= {"ETag": f'"{_etag(filename, content)}"', "Accept-Ranges": "bytes"}
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cuts = self.hub.cuts[f"{repo_id}/{filename}"]
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self._send(content[start:], 206 if start else 200, headers, cut)

    @_route("POST", "/api/repos/create")
    def _create(self) -> None:
        if not self._is_authorized():
            self._fail(401, "Unauthorized")
            return
        wanted = json.loads(self.body)
        kind, repo_id = wanted.get("type") or "model", f"{wanted.get('organization') or USER}/{wanted['name']}"
        exists = (kind, repo_id) in self.hub.repositories
        if not exists:
            self.hub.repositories[kind, repo_id] = Repository(is_private=wanted.get("visibility") == "private")
        prefix = "" if kind == "model" else "datasets/"
        self._send_json({"url": f"{self.hub.endpoint}/{prefix}{repo_id}", "name": repo_id}, 409 if exists else 200)

    @_route("POST", "/api/validate-yaml")
    def _validate_card(self) -> None:
        wanted = json.loads(self.body)
        try:
            if wanted["repoType"] == "model":
                check_card(wanted["content"])
        except (KeyError, TypeError, ValueError) as error:
            self._send_json({"errors": [{"message": repr(error)}], "warnings": []}, 400)
        else:
            self._send_json({"errors": [], "warnings": []})

    @_route("POST", _API + "/preupload/(?P<revision>.+)")
    def _preupload(self, kind: str, repo_id: str, revision: str) -> None:
        if self._repository(kind, repo_id, revision, to_write=True) is not None:
            paths = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {path: "lfs" if path.endswith(_LFS_SUFFIXES) else "regular" for path in paths}
            self._send_json({"files": [_upload_mode(path, mode) for path, mode in modes.items()]})

    @_route("POST", _PAGE + r"\.git/info/lfs/objects/batch")
    def _lfs_batch(self, datasets: str | None, repo_id: str) -> None:
        if self._repository("dataset" if datasets else "model", repo_id, "main", to_write=True) is not None:
            objects = json.loads(self.body)["objects"]
            for wanted in objects:
                if wanted["oid"] not in self.hub.objects:
                    wanted["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}
            self._send_json({"transfer": "basic", "objects": objects})

    @_route("PUT", "/lfs/(?P<oid>.+)")
    def _lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._fail(400, "another file than was announced")
            return
        self.hub.objects[oid] = self.body
        self._send(b"")

    @_route("POST", _API + "/commit/(?P<revision>.+)")
    def _commit(self, kind: str, repo_id: str, revision: str) -> None:
        repository = self._repository(kind, repo_id, revision, to_write=True)
        if repository is None:
            return
        files = dict(repository.revisions[revision])
        for operation in map(json.loads, self.body.splitlines()):
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = repository.commit(files, revision)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{commit}"
        self._send_json({"success": True, "commitOid": commit, "commitUrl": url})

    def _is_authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, kind: str, repo_id: str, revision: str, to_write: bool = False) -> Repository | None:
        """The repository, or `None` once it is answered that there is none, or none for whoever asks."""
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None or ((to_write or repository.is_private) and not self._is_authorized()):
            # As the Hub does, which does not say whether there is one that is private.
            self._fail(404 if self._is_authorized() else 401, "RepoNotFound")
            return None
        if revision not in repository.revisions:
            self._fail(404, "RevisionNotFound")
            return None
        return repository

    def _fail(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        self._send_json({"error": error}, status, {**(headers or {}), "X-Error-Code": error})

    def _send_json(self, payload: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(payload).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def check_card(content: str) -> None:
    """Raises `ValueError`, `KeyError` or `TypeError` if the Hub would refuse a card for its metadata.

    The client reads the `model-index` as the Hub does: every result has a task, a dataset with a name, and metrics.
    """
    card = ModelCard(content)  # which raises `ValueError` on YAML or a model index that is none
    for result in card.data.eval_results or []:
        wanted = (result.task_type, result.dataset_type, result.dataset_name, result.metric_type)
        if not all(isinstance(value, str) and value for value in wanted) or not isinstance(result.metric_value, float):
            raise ValueError(f"a result lacks what the Hub asks for: {result}")


def _tree(files: dict[str, bytes], folder: str | None) -> Iterator[dict]:
    for name, content in files.items():
        if name.startswith(f"{folder}/" if folder else ""):
            entry = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
            if name.endswith(_LFS_SUFFIXES):
                entry["lfs"] = {"oid": _etag(name, content), "size": len(content), "pointerSize": 134}
            yield entry


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(_LFS_SUFFIXES) else git_hash(content)


def _upload_mode(path: str, mode: str) -> dict:
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}
