"""A stand-in for the Hugging Face Hub on this machine: what the real client reads, served from a folder.

    with LoopbackHub(root) as hub:
        subprocess.run([...], env={**os.environ, "HF_ENDPOINT": hub.endpoint})

Every `root/<namespace>/<name>/` is a model repository with the one branch `main`. Nothing can be written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


class LoopbackHub(AbstractContextManager):
    """Serves the repositories below `root` while the context lasts.

    Attributes:
        endpoint (`str`): For `HF_ENDPOINT`.
        requests (`list[str]`): `"METHOD path"` of all that was asked for.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo_id: str) -> dict[str, Path]:
        """Files of a repository by their names in it; none if there is no such repository."""
        folder = self.root / repo_id
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def commit(self, repo_id: str) -> str:
        """The commit that `main` points to: a hash of all it holds."""
        digest = hashlib.sha1()
        for name, path in self.files(repo_id).items():
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_) -> None:
        """Keeps the test's output quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            self._answer_api(path.removeprefix("/api/models/").split("/"))
        elif path.count("/") >= 5 and path.split("/")[3] == "resolve":
            _, namespace, name, _, revision, filename = path.split("/", 5)
            self._answer_file(f"{namespace}/{name}", revision, filename)
        else:
            self._fail("no such page")

    def _answer_api(self, parts: list[str]) -> None:
        """`{id}`, `{id}/revision/{revision}`, `{id}/tree/{revision}[/folder]`."""
        repo_id, rest = "/".join(parts[:2]), parts[2:]
        if not self._exists(repo_id, rest[1] if len(rest) > 1 else "main"):
            return
        if rest[:1] == ["tree"]:
            self._send(json.dumps(list(self._tree(repo_id, "/".join(rest[2:])))).encode())
        elif not rest or rest[0] == "revision":
            siblings = [{"rfilename": name} for name in self.hub.files(repo_id)]
            info = {"_id": repo_id, "id": repo_id, "modelId": repo_id, "sha": self.hub.commit(repo_id)}
            self._send(json.dumps({**info, "private": False, "tags": [], "siblings": siblings}).encode())
        else:
            self._fail("no such page")

    def _tree(self, repo_id: str, folder: str) -> Iterator[dict]:
        for name, path in self.hub.files(repo_id).items():
            if name.startswith(f"{folder}/" if folder else ""):
                content = path.read_bytes()
                yield {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _answer_file(self, repo_id: str, revision: str, filename: str) -> None:
        if not self._exists(repo_id, revision):
            return
        headers = {"X-Repo-Commit": self.hub.commit(repo_id)}
        path = self.hub.files(repo_id).get(filename)
        if path is None:
            self._fail("EntryNotFound", headers)
            return
        content = path.read_bytes()
        self._send(content, headers={**headers, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _exists(self, repo_id: str, revision: str) -> bool:
        """Whether there is such a revision; answers that there is none if not."""
        if not self.hub.files(repo_id):
            self._fail("RepoNotFound")
            return False
        if revision not in ("main", self.hub.commit(repo_id)):
            self._fail("RevisionNotFound")
            return False
        return True

    def _fail(self, error: str, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps({"error": error}).encode(), 404, {**(headers or {}), "X-Error-Code": error})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
