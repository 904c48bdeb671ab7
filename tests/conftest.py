import hashlib
import os
import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from pytest_socket import socket_allow_hosts

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


LONGEST = ("test_demo.py", "test_resume.py")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    """The longest first. Slow tests are left out of the default run, and counted as deselected rather than skipped."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if not config.getoption("--slow"):
        slow = [i for i in items if "slow" in i.keywords]
        config.hook.pytest_deselected(items=slow)
        items[:] = [i for i in items if "slow" not in i.keywords]


@pytest.fixture(autouse=True)
def _no_network(socket_disabled):
    """Everything works offline; a test that opens a socket fails."""


@pytest.fixture(autouse=True)
def _same_draws():
    """A test that draws without a generator draws the same at each run, in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def epi_path():
    """The real EPI series that ships inside nibabel, 128 x 96 x 24 x 2."""
    return Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"


@pytest.fixture(scope="session")
def small_volume(tmp_path_factory, epi_path):
    """Four real slices, 48 x 40, with an oblique affine, as a file."""
    image = nibabel.load(epi_path)
    block = np.asarray(image.dataobj[40:88, 30:70, 10:14, 0]).astype(np.int16)
    path = tmp_path_factory.mktemp("scan") / "small.nii.gz"
    header = image.header.copy()
    header.set_data_shape(block.shape)
    header.extensions.clear()
    nibabel.save(nibabel.Nifti1Image(block, image.affine, header), path)
    return path


class Web(ThreadingHTTPServer):
    """A server on this computer that does what a test wants of it, request by request.

    Attributes:
        files: content by path.
        tags: entity tags, where they are not made from the content; None for none.
        faults: what is done at the next requests, in their order: a status with headers, or one of the names in
            `Answer.do_GET`; then all is well.
        asked: path, Range and If-Range of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.tags, self.faults, self.asked = {}, {}, deque(), []
        self.ranges = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        """A client that hangs up is no news."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        web = self.server
        asked = self.headers.get("Range"), self.headers.get("If-Range")
        web.asked.append((self.path, *asked))
        fault = web.faults.popleft() if web.faults else ("well",)
        if isinstance(fault[0], int):
            return self.say(fault[0], b"", fault[1])
        path = self.path if self.path in web.files else self.path.partition("?")[0]
        if path not in web.files:
            return self.say(404, b"", {})
        content = web.files[path]
        tag = web.tags.get(path, f'"{hashlib.md5(content).hexdigest()}"')
        first, status, headers = 0, 200, {"ETag": tag} if tag else {}
        if fault[0] == "well" and fault[1:]:
            headers["Content-Encoding"] = fault[1]
        if asked[0] and web.ranges and (asked[1] in (None, tag) or fault[0] == "deaf"):
            first, status = int(asked[0].removeprefix("bytes=").rstrip("-")), 206
            if first >= len(content):
                return self.say(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.body(fault, content[first:], status, headers)

    def body(self, fault, content, status, headers):
        kind, *how = fault
        if kind == "chunked":
            self.say(status, b"", headers | {"Transfer-Encoding": "chunked"}, length=False)
            for k in range(0, len(content), 1000):
                piece = content[k : k + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if how and k >= how[0]:
                    return self.hang_up()
            self.wfile.write(b"0\r\n\r\n")
        elif kind == "endless":
            self.say(status, content, headers, length=False)
            self.close_connection = True
        elif kind == "short":
            self.say(status, content[: how[0]], headers)
        elif kind == "cut":
            self.say(status, b"", headers | {"Content-Length": str(len(content))}, length=False)
            self.wfile.write(content[: how[0]])
            self.hang_up()
        elif kind == "drip":
            self.say(status, b"", headers | {"Content-Length": str(len(content))}, length=False)
            for k in range(0, len(content), how[0]):
                self.wfile.write(content[k : k + how[0]])
                self.wfile.flush()
                time.sleep(how[1])
        else:
            self.say(status, content, headers)

    def hang_up(self):
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def say(self, status, content, headers, length=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(socket_enabled, monkeypatch):
    """The server; this test alone may open sockets, and connect to this computer alone."""
    socket_allow_hosts(["127.0.0.1"])
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
