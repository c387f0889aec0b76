"""Data sets by name: where they are found, how they come here, and what is said of them."""

import gzip
import http.server
import io
import json
import threading
import zipfile

import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.data import SOURCES, Votes, available, get, load, load_votes, locate, state
from palate.data import fetch as fetch_module
from palate.data.checksums import RECORD
from palate.data.public.psoups import PREFERENCES
from palate.data.public.ultrafeedback import ASPECTS
from palate.errors import ConfigError, DataError, DownloadError

STEER = {
    "context": [{"role": "user", "content": "Fix it."}],
    "response1": "x",
    "response2": "y",
    "individual_preference": [{"score": -2}, {"score": 1}],
}


def palate(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def lines(*records):
    return "\n".join(json.dumps(record) for record in records).encode()


class Hub(http.server.ThreadingHTTPServer):
    """Serves `files` by the end of the path; 401 for what is `closed`, 404 for the rest."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.closed, self.asked = {}, (), []


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        name = next((name for name in self.server.files if self.path.endswith(name)), None)
        status = 401 if any(part in self.path for part in self.server.closed) else 200 if name else 404
        body = self.server.files[name] if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine, an empty cache, and no data folder."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    for name in ("PALATE_DATA", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch_module, "PAUSE", 0.0)
    made = Hub()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def steer(hub):
    hub.files = {
        "preference/train.jsonl.gz": gzip.compress(lines(STEER)),
        "preference/validation.jsonl.gz": gzip.compress(lines({**STEER, "response2": "z"})),
    }
    return hub


def test_get_fetches_once_and_load_never_does(steer, tmp_path):
    assert state("helpsteer3") == "can be fetched"
    with pytest.raises(
        DataError, match=r"helpsteer3 is not here: .PALATE_DATA is not set; fetch it with palate data get"
    ):
        load("helpsteer3")
    assert steer.asked == []
    fetched = get("helpsteer3")
    assert len(fetched) == 4 and fetched.users == ("slot-1", "slot-2")
    assert (fetched.name, fetched.licence) == ("helpsteer3", "CC BY 4.0")
    assert len(steer.asked) == 2
    assert state("helpsteer3") == "here" and "helpsteer3" in available()
    again = get("helpsteer3")
    loaded = load("helpsteer3")
    assert len(steer.asked) == 2
    assert fetched.fingerprint == again.fingerprint == loaded.fingerprint
    assert locate("helpsteer3").parent == tmp_path / "cache" / "data" / "helpsteer3"
    record = json.loads((locate("helpsteer3").parent / RECORD).read_text())
    assert set(record) == {"train.jsonl.gz", "validation.jsonl.gz"}
    assert record["train.jsonl.gz"]["url"].endswith(
        "/datasets/nvidia/HelpSteer3/resolve/main/preference/train.jsonl.gz"
    )


def test_what_could_not_be_verified_is_said_every_time(steer):
    for dataset in (get("helpsteer3"), get("helpsteer3"), load("helpsteer3")):
        assert dataset.notes[0].startswith("helpsteer3: not verified: the publisher names no annotators")


def test_a_fetched_file_that_changed_is_refused(steer):
    get("helpsteer3")
    path = locate("helpsteer3").parent / "train.jsonl.gz"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"train.jsonl.gz: its SHA-256 is \w{64}, recorded in .* is \w{64}"):
        get("helpsteer3")
    path.unlink()
    with pytest.raises(DataError, match="its SHA-256"):
        steer.files["preference/train.jsonl.gz"] = gzip.compress(lines(STEER, STEER))
        get("helpsteer3")


def test_a_missing_file_is_fetched_again(steer):
    first = get("helpsteer3")
    (locate("helpsteer3").parent / "train.jsonl.gz").unlink()
    assert get("helpsteer3").fingerprint == first.fingerprint
    assert len(steer.asked) == 3


def test_a_gated_set_needs_a_token(hub):
    hub.closed = ("lmsys",)
    assert state("chatbot_arena") == "gated"
    with pytest.raises(DownloadError) as caught:
        get("chatbot_arena")
    message = str(caught.value)
    assert "is gated (HTTP 401) and no $HF_TOKEN is set" in message
    assert SOURCES["chatbot_arena"].home in message
    assert "put the file into $PALATE_DATA/chatbot_arena/ as train.parquet by hand" in message
    assert "\n" not in message


def test_a_set_that_is_gone(hub):
    with pytest.raises(DownloadError, match=r"is not there \(HTTP 404\)"):
        get("tldr")


def test_offline_names_the_address_and_the_way_by_hand(hub, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = palate("data", "get", "prism")
    assert done.exit_code == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert (
        "https://huggingface.co/datasets/HannahRoseKirk/prism-alignment/resolve/main/conversations.jsonl" in errors[0]
    )
    assert "put the file into $PALATE_DATA/prism/ as conversations.jsonl by hand" in errors[0]


# -- the data folder ------------------------------------------------------------------------------------------------


def test_the_data_folder_comes_first_in_our_columns_or_the_publishers(steer, tmp_path, monkeypatch):
    get("helpsteer3")
    folder = tmp_path / "own"
    (folder / "helpsteer3").mkdir(parents=True)
    monkeypatch.setenv("PALATE_DATA", str(folder))
    assert locate("helpsteer3").is_relative_to(tmp_path / "cache")
    for name in ("train", "validation"):
        (folder / "helpsteer3" / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines(STEER)))
    assert locate("helpsteer3") == folder / "helpsteer3"
    assert len(get("helpsteer3")) == 4
    assert sorted(path.name for path in (folder / "helpsteer3").iterdir()) == ["train.jsonl.gz", "validation.jsonl.gz"]
    row = {"user": ["u"], "prompt": ["p"], "left": ["a"], "right": ["b"], "label": [1.0]}
    pl.DataFrame(row).write_parquet(folder / "helpsteer3.parquet")
    assert locate("helpsteer3") == folder / "helpsteer3.parquet"
    assert load("helpsteer3").users == ("u",)
    assert not any("not verified" in note for note in load("helpsteer3").notes)


def test_half_of_the_files_are_not_the_set(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    (tmp_path / "helpsteer3").mkdir()
    (tmp_path / "helpsteer3" / "train.jsonl.gz").write_bytes(gzip.compress(lines(STEER)))
    assert state("helpsteer3") == "can be fetched"
    with pytest.raises(DataError, match=r"helpsteer3.parquet is not in \$PALATE_DATA"):
        load("helpsteer3")


def test_an_optional_file_may_be_missing(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    (tmp_path / "prism").mkdir()
    history = [
        {"turn": 0, "role": "user", "content": "Hi"},
        {"turn": 0, "role": "model", "content": "A", "score": 2, "if_chosen": True},
        {"turn": 0, "role": "model", "content": "B", "score": 1, "if_chosen": False},
    ]
    row = {"user_id": "u", "conversation_id": "c", "conversation_history": history}
    (tmp_path / "prism" / "conversations.jsonl").write_bytes(lines(row))
    assert len(load("prism")) == 1


def test_an_optional_file_that_cannot_be_fetched_is_said(hub):
    history = [
        {"turn": 0, "role": "user", "content": "Hi"},
        {"turn": 0, "role": "model", "content": "A", "score": 2, "if_chosen": True},
        {"turn": 0, "role": "model", "content": "B", "score": 1, "if_chosen": False},
    ]
    row = {"user_id": "u", "conversation_id": "c", "conversation_history": history}
    hub.files = {"conversations.jsonl": lines(row)}
    dataset = get("prism")
    assert len(dataset) == 1
    assert dataset.notes[0].startswith("prism goes without survey.jsonl: http://127.0.0.1")


def test_sets_that_share_their_files_fetch_them_once(hub):
    completions = [
        {"response": text, "annotations": {aspect: {"Rating": rating} for aspect in ASPECTS}}
        for text, rating in (("x", "5"), ("y", "1"))
    ]
    completions[0]["annotations"]["honesty"]["Rating"] = "1"
    completions[1]["annotations"]["honesty"]["Rating"] = "5"
    ratings = lines({"instruction": "p", "completions": completions})
    pairs = io.BytesIO()
    pl.DataFrame({"prompt": ["p"], "chosen": ["x"], "rejected": ["y"], "source": ["s"]}).write_parquet(pairs)
    hub.files = {".jsonl": ratings, "refs%2Fconvert%2Fparquet/default/train/0000.parquet": pairs.getvalue()}
    assert len(get("ultrafeedback_p4")) == 4
    asked = len(hub.asked)
    assert asked == 7
    assert len(get("ultrafeedback_p2")) == 2
    assert len(hub.asked) == asked


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "unpacked"])
def test_an_archive_may_lie_there_packed_or_unpacked(hub, tmp_path, monkeypatch, packed):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    folder = tmp_path / "psoups"
    (folder / "data" / "rm_training").mkdir(parents=True)
    row = [{"user_input": "Say hello.", "completion_a": "Hello!", "completion_b": "Go away."}]
    if packed:
        with zipfile.ZipFile(folder / "data.zip", "w") as archive:
            for name in PREFERENCES:
                archive.writestr(f"data/rm_training/{name}.json", json.dumps(row))
    else:
        for name in PREFERENCES:
            (folder / "data" / "rm_training" / f"{name}.json").write_text(json.dumps(row))
    assert load("psoups").users == tuple(PREFERENCES)


def test_a_half_fetched_archive_is_one_line(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    (tmp_path / "psoups").mkdir()
    (tmp_path / "psoups" / "data.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="cut short or damaged .*; delete it and fetch it again"):
        load("psoups")


def test_a_few_bad_rows_are_left_out_and_many_are_another_shape(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    folder = tmp_path / "helpsteer3"
    folder.mkdir()
    good = [{**STEER, "response1": f"x{number}"} for number in range(20)]
    bad = {**STEER, "individual_preference": [{"score": 9}]}
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines(*good, bad)))
    dataset = load("helpsteer3")
    assert len(dataset) == 80 and len(dataset.left_out) == 2
    assert "line 21: a preference of 9 is unknown" in dataset.left_out[0]
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines(*good, *[bad] * 10)))
    with pytest.raises(DataError, match="11 of 91 rows are bad: .*its publisher changed its shape"):
        load("helpsteer3")


def test_votes_come_from_the_publishers_files_too(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    folder = tmp_path / "polis_bowling_green"  # shared with the pairs that are made of them
    folder.mkdir()
    (folder / "comments.csv").write_text("comment-id,moderated,comment-body\n0,1,More trees\n1,-1,Spam\n")
    (folder / "votes.csv").write_text("timestamp,comment-id,voter-id,vote\n1,0,a,1\n2,1,a,1\n3,0,b,-1\n")
    votes = get("polis_bowling_green_votes")
    assert isinstance(votes, Votes)
    assert (votes.statements, sorted(votes.vote.tolist()), len(votes.users)) == (("More trees",), [-1, 1], 2)
    with pytest.raises(ConfigError, match="use palate.data.load_votes"):
        load("polis_bowling_green_votes")
    assert state("polis_bowling_green") == "here"
    with pytest.raises(DataError, match="no rows"):
        load("polis_bowling_green")
    assert load_votes().vote.tolist() == votes.vote.tolist()


def test_unknown_names():
    for function in (get, load, locate, state):
        with pytest.raises(ConfigError, match="unknown data set 'prsm'; there are: convarg"):
            function("prsm")


# -- the command line -----------------------------------------------------------------------------------------------


def test_get_says_the_licence_first_and_what_is_not_verified(steer):
    done = palate("data", "get", "helpsteer3", "--json")
    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert said[0] == "licence: CC BY 4.0"
    assert said[1].startswith("attribution: HelpSteer3-Preference")
    assert any(line.startswith("note: helpsteer3: not verified: ") for line in said)
    facts = json.loads(done.stdout)
    assert (facts["n_comparisons"], facts["noncommercial"]) == (4, False)
    assert facts["file"].endswith("helpsteer3.1.parquet")


def test_a_noncommercial_licence_says_so_even_when_the_fetch_fails(hub):
    done = palate("data", "get", "chatbot_arena")
    assert done.exit_code == 1
    assert "non-commercial use only" in done.stderr.splitlines()[0]


def test_list_shows_every_state(steer, tmp_path, monkeypatch):
    get("helpsteer3")
    known = {entry["name"]: entry for entry in json.loads(palate("data", "list", "--json").stdout)}
    assert {"corpus", *SOURCES} == set(known)
    states = {name: known[name]["state"] for name in ("corpus", "helpsteer3", "prism", "chatbot_arena")}
    assert states == dict(corpus="here", helpsteer3="here", prism="can be fetched", chatbot_arena="gated")
    assert all(entry["here"] == (entry["state"] == "here") for entry in known.values())
    assert known["chatbot_arena"]["megabytes"] == pytest.approx(41.6)
    assert known["prism"]["noncommercial"] and not known["tldr"]["noncommercial"]
    words = palate("data", "list").stdout
    assert "chatbot_arena               gated              42 MB  " in words
    assert words.count("non-commercial use only") == 2
