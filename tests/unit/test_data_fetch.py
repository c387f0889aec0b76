"""Fetching files, against a server on this machine that cuts, forgets, refuses and changes its mind."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from palate.data import fetch as module
from palate.data.checksums import RECORD, check
from palate.data.fetch import address, fetch, offline
from palate.errors import DataError, DownloadError, StorageError

CONTENT = bytes(range(256)) * 4000
HAND = "put the file there by hand"


class Server(http.server.ThreadingHTTPServer):
    """Serves one content; how it behaves is set by attributes, what was asked is kept."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.ranges, self.status = CONTENT, '"one"', True, 200
        self.cut_after, self.length, self.encoding, self.redirect = None, True, None, None
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server, headers = self.server, {key.lower(): value for key, value in self.headers.items()}
        server.asked.append((self.path, headers))
        if server.redirect and self.path != "/moved":
            self.reply(302, b"", {"Location": server.redirect})
            return
        if server.status != 200:
            self.reply(server.status, b"no", {})
            return
        start, status, more = 0, 200, {}
        if server.etag:
            more["ETag"] = server.etag
        if server.encoding:
            more["Content-Encoding"] = server.encoding
        if server.ranges and "range" in headers and headers.get("if-range") == server.etag:
            start = int(headers["range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(server.content)}"})
                return
            status = 206
            more["Content-Range"] = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        self.reply(status, server.content[start:], more)

    def reply(self, status, body, more):
        server = self.server
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        if server.length or status != 200:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if server.cut_after is not None and status in (200, 206):
            body, server.cut_after = body[: server.cut_after], None
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def leavings(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_under_its_name_with_progress(server, tmp_path):
    seen = []
    target = tmp_path / "deep" / "data.bin"
    known = fetch(server.url, target, by_hand=HAND, progress=lambda *step: seen.append(step))
    assert target.read_bytes() == CONTENT
    assert known == {"url": server.url, "etag": '"one"'}
    assert seen[-1] == (len(CONTENT), len(CONTENT), "data.bin")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert leavings(target.parent) == ["data.bin"]
    assert server.asked[0][1]["accept-encoding"] == "identity"


def test_a_cut_connection_is_resumed_with_a_range(server, tmp_path):
    server.cut_after = 300_001
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    first, second = (headers for _, headers in server.asked)
    assert "range" not in first
    kept = int(second["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < kept <= 300_001
    assert second["if-range"] == '"one"'


def test_without_ranges_it_starts_anew(server, tmp_path):
    server.cut_after, server.ranges = 300_000, False
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_without_a_validator_nothing_is_resumed(server, tmp_path):
    server.cut_after, server.etag = 300_000, None
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert all("range" not in headers for _, headers in server.asked)


def half(server, tmp_path, monkeypatch):
    """What is left when the connection is cut once and there is no second try."""
    server.cut_after = 400_000
    with monkeypatch.context() as patch:
        patch.setattr(module, "ATTEMPTS", 1)
        with pytest.raises(DownloadError, match=r"bytes are kept; the same command goes on from there") as caught:
            fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert str(caught.value).endswith(HAND)
    assert not (tmp_path / "data.bin").exists()
    return (tmp_path / "data.bin.part").stat().st_size


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server, tmp_path, monkeypatch):
    kept = half(server, tmp_path, monkeypatch)
    server.asked.clear()
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert server.asked[0][1]["range"] == f"bytes={kept}-"
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert leavings(tmp_path) == ["data.bin"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server, tmp_path, monkeypatch):
    half(server, tmp_path, monkeypatch)
    server.content, server.etag = CONTENT[::-1] + b"more", '"two"'
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_old_bytes_are_not_taken_for_the_new_version_by_a_run_killed_before_it_wrote(server, tmp_path, monkeypatch):
    half(server, tmp_path, monkeypatch)
    server.cut_after, server.content, server.etag = None, CONTENT[::-1], '"two"'
    with monkeypatch.context() as patch:

        def killed(*arguments):
            raise KeyboardInterrupt

        patch.setattr(module, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_file_that_became_shorter_is_fetched_from_its_start(server, tmp_path, monkeypatch):
    half(server, tmp_path, monkeypatch)
    server.content = b"short"
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == b"short"


@pytest.mark.parametrize("known", ["{", "[]", '{"url": "elsewhere", "validator": "x"}'])
def test_a_part_of_unknown_origin_is_not_used(server, tmp_path, known):
    (tmp_path / "data.bin.part").write_bytes(b"garbage")
    (tmp_path / "data.bin.part.json").write_text(known)
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length(server, tmp_path):
    server.length = False
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_given_up(server, tmp_path):
    server.status = 503
    with pytest.raises(DownloadError, match=r"the server is busy \(HTTP 503\)"):
        fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert len(server.asked) == module.ATTEMPTS


@pytest.mark.parametrize(
    ("status", "token", "says"),
    [
        (
            401,
            None,
            r"is gated \(HTTP 401\) and no \$HF_TOKEN is set: accept the publisher's conditions at http://home",
        ),
        (403, "hf_x", r"is gated \(HTTP 403\) and the token in \$HF_TOKEN has no right to it"),
        (404, None, r"is not there \(HTTP 404\): its publisher moved it, see http://home"),
        (418, None, r"answered HTTP 418"),
    ],
)
def test_refusals_are_one_line_with_the_way_out(server, tmp_path, monkeypatch, status, token, says):
    server.status = status
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match=says) as caught:
        fetch(server.url, tmp_path / "data.bin", by_hand=HAND, home="http://home")
    message = str(caught.value)
    assert server.url in message and message.endswith(HAND) and "\n" not in message
    assert token is None or token not in message
    assert len(server.asked) == 1
    assert not (tmp_path / "data.bin").exists()


def test_nobody_there(server, tmp_path):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="cannot be fetched: .*put the file there by hand"):
        fetch(url, tmp_path / "data.bin", by_hand=HAND)


def test_a_compressed_answer_is_refused(server, tmp_path):
    server.encoding = "gzip"
    with pytest.raises(DownloadError, match="insists on sending it compressed"):
        fetch(server.url, tmp_path / "data.bin", by_hand=HAND)


def test_redirects_are_followed(server, tmp_path):
    server.redirect = "/moved"
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_plain_http_is_for_this_machine_only(tmp_path):
    with pytest.raises(DownloadError, match="only https addresses are fetched"):
        fetch("http://example.org/x", tmp_path / "x", by_hand=HAND)


def test_the_token_goes_to_the_hub_only(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(server.url, tmp_path / "data.bin", by_hand=HAND)
    assert "authorization" not in server.asked[-1][1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    fetch("https://huggingface.co/datasets/x", tmp_path / "x", by_hand=HAND)
    path, headers = server.asked[-1]
    assert path == "/datasets/x"
    assert headers["authorization"] == "Bearer hf_secret"


def test_a_mirror_takes_the_hubs_place_and_no_other(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert address("https://huggingface.co/datasets/x") == "https://mirror.example/datasets/x"
    assert address("https://huggingface.com.example/x") == "https://huggingface.com.example/x"
    monkeypatch.delenv("HF_ENDPOINT")
    assert address("https://huggingface.co/datasets/x") == "https://huggingface.co/datasets/x"


def test_offline_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert offline()
    with pytest.raises(
        DownloadError, match=r"https://huggingface.co/x is not fetched, because HF_HUB_OFFLINE is set; "
    ):
        fetch("https://huggingface.co/x", tmp_path / "x", by_hand=HAND)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not offline()


def test_a_full_disk_is_told_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(StorageError, match="needs 1 MB and 0 MB are free"):
        fetch(server.url, tmp_path / "data.bin", by_hand=HAND)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        fetch(server.url, tmp_path / "file" / "data.bin", by_hand=HAND)


def test_two_processes_do_not_write_the_same_file(server, tmp_path):
    import fcntl

    with (tmp_path / "data.bin.part.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="is being fetched by another process"):
            fetch(server.url, tmp_path / "data.bin", by_hand=HAND)


# -- digests --------------------------------------------------------------------------------------------------------


def test_a_digest_is_recorded_once_and_checked_ever_after(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"first")
    first = hashlib.sha256(b"first").hexdigest()
    assert check(path, about={"url": "https://x"}) == first
    assert json.loads((tmp_path / RECORD).read_text()) == {"a.bin": {"sha256": first, "bytes": 5, "url": "https://x"}}
    assert check(path) == first
    path.write_bytes(b"second")
    with pytest.raises(DataError) as caught:
        check(path)
    message = str(caught.value)
    assert first in message and hashlib.sha256(b"second").hexdigest() in message
    assert "delete it and fetch it again, or, if you changed it on purpose, delete its entry" in message


def test_a_digest_known_from_elsewhere(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"first")
    with pytest.raises(DataError, match="its publisher's is 00"):
        check(path, expected="00")
    assert not (tmp_path / RECORD).exists()
    assert check(path, expected=hashlib.sha256(b"first").hexdigest())


@pytest.mark.parametrize("content", ["{", "[1]", '{"a.bin": 3}'])
def test_a_broken_record_is_one_line(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(DataError, match="no record of digests; delete it"):
        check(tmp_path / "a.bin")
