"""Keys, in the files of minisign: made, read, under a passphrase, damaged. `minisign/` was made by minisign 0.11."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mtl import packages
from edge_mtl.errors import BackendUnavailable, SignatureError
from edge_mtl.signing.bundles import key_files, write_new_key
from edge_mtl.signing.keys import PublicKey, ScryptCost, SecretKey
from edge_mtl.unfinished import TEMPORARY_PREFIX

FILES = Path(__file__).parent / "minisign"
CHEAP = ScryptCost(1 << 19, 1 << 24)


def never() -> str:
    raise AssertionError("a passphrase was asked for")


def test_a_plain_key_of_minisign_is_read() -> None:
    key = SecretKey.read(FILES / "plain.key", never)
    assert key.public == PublicKey.of(FILES / "plain.pub")
    assert key.public.name == "9F0EC0EE1AE16FFE"
    assert key.public.text == (FILES / "plain.pub").read_text().splitlines()[1]


@pytest.mark.slow
def test_a_key_of_minisign_under_a_passphrase_is_read() -> None:
    key = SecretKey.read(FILES / "covered.key", lambda: "correct horse")
    assert key.public == PublicKey.of(str(FILES / "covered.pub"))


def test_a_public_key_is_its_file_or_the_text_in_it() -> None:
    key = PublicKey.of(FILES / "plain.pub")
    assert PublicKey.of(key.text) == PublicKey.of(key) == PublicKey.from_file(key.to_file(), what="it") == key
    assert key.to_file() == (FILES / "plain.pub").read_bytes()


@pytest.mark.parametrize("passphrase", [None, "correct horse", "täglich ☃"])
def test_a_new_key_is_read_back(tmp_path: Path, passphrase: str | None) -> None:
    files = key_files(f"{tmp_path}/keys/")
    made = write_new_key(files, passphrase, cost=CHEAP)
    assert SecretKey.read(files.secret, lambda: passphrase or "") == made
    assert PublicKey.of(files.public) == made.public
    assert stat.S_IMODE(files.secret.stat().st_mode) == 0o600
    assert made.seed not in files.secret.read_bytes()
    assert repr(made).count("seed") == 0, "a secret is not printed"


def test_two_new_keys_differ() -> None:
    assert SecretKey.new() != SecretKey.new()


def test_the_cost_of_a_passphrase_is_minisigns() -> None:
    head = (FILES / "covered.key").read_bytes().splitlines()[1]
    made = SecretKey.new()
    assert ScryptCost() == ScryptCost(1 << 25, 1 << 30)
    assert made.to_file("correct horse", cost=CHEAP).splitlines()[1][:8] == head[:8]


def test_another_passphrase_is_refused(tmp_path: Path) -> None:
    files = key_files(str(tmp_path / "my.key"))
    write_new_key(files, "correct horse", cost=CHEAP)
    with pytest.raises(SignatureError, match="passphrase is another"):
        SecretKey.read(files.secret, lambda: "correct house")


@pytest.mark.parametrize("name", ["my.key", "my.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(SignatureError, match=rf"{name} exists already"):
        key_files(str(tmp_path / "my.key"))
    (tmp_path / name).unlink()
    files = key_files(str(tmp_path / "my.key"))
    (tmp_path / name).write_text("mine")
    with pytest.raises(SignatureError, match=r"cannot be written"):
        write_new_key(files, None)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing half-made stays"
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "my.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="exists already"):
        key_files(str(tmp_path / "my.key"))


KILLED = """
import os, signal, sys
from edge_mtl.signing.bundles import key_files, write_new_key

calls, original = [], getattr(os, sys.argv[2])

def dying(*arguments, **options):
    calls.append(arguments)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(os, sys.argv[2], dying)
write_new_key(key_files(sys.argv[1]), None)
"""


@pytest.mark.parametrize(("step", "count", "left"), [("fsync", 1, 0), ("fsync", 2, 1), ("link", 1, 0), ("link", 2, 1)])
def test_a_key_that_is_killed_while_it_is_written_is_never_half(tmp_path: Path, step: str, count: int, left: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, f"{tmp_path}/", step, str(count)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = [path for path in tmp_path.iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
    assert [path.name for path in whole] == ["edge-mtl.pub"][:left]
    assert all(PublicKey.of(str(path)) for path in whole)
    write_new_key(key_files(str(tmp_path / "other.key")), None)
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_the_name_of_a_public_key_is_no_place_for_a_secret_one(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="name of a public key"):
        key_files(str(tmp_path / "my.pub"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "2 lines"),
        (b"untrusted comment: x\n", "2 lines"),
        (b"x\nRWT+b+Ea7sAOn431gdGuFJZ5LT92Z5ORcgmQC8bhbbiCIU5ANAydTh73\n", "untrusted comment"),
        (b"untrusted comment: \nRWT+\n", "42 bytes"),
        (b"untrusted comment: \n!!!!\n", "Base64"),
        (b"untrusted comment: \nRXT+b+Ea7sAOn431gdGuFJZ5LT92Z5ORcgmQC8bhbbiCIU5ANAydTh73\n", "algorithm"),
        (b"untrusted comment: \x1b[2J\nRWT+b+Ea7sAOn431gdGuFJZ5LT92Z5ORcgmQC8bhbbiCIU5ANAydTh73\n", "control"),
        (b"untrusted comment: \xff\nRWT+b+Ea7sAOn431gdGuFJZ5LT92Z5ORcgmQC8bhbbiCIU5ANAydTh73\n", "UTF-8"),
        (b"x" * 20_000, "larger than"),
    ],
)
def test_what_is_no_public_key_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "my.pub").write_bytes(content)
    with pytest.raises(SignatureError, match=message):
        PublicKey.of(tmp_path / "my.pub")


def test_a_missing_key_names_the_command_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="--new-key"):
        SecretKey.read(tmp_path / "none", never)
    os.mkfifo(tmp_path / "pipe")
    for read in (lambda path: SecretKey.read(path, never), PublicKey.of):
        with pytest.raises(SignatureError, match="a pipe"):
            read(tmp_path / "pipe")
    with pytest.raises(SignatureError, match="cannot be read"):
        PublicKey.of("a\0b")


def test_a_key_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    files = key_files(str(tmp_path / "my.key"))
    key = SecretKey.new()
    with pytest.raises(SignatureError, match="asks for"):
        key.to_file("correct horse", cost=ScryptCost(1 << 25, 1 << 40))
    write_new_key(files, "correct horse", cost=CHEAP)
    lines = files.secret.read_bytes().split(b"\n")
    from edge_mtl.signing.text_files import decoded, encoded

    content = bytearray(decoded(lines[1].decode(), 158, what="it"))
    content[46:54] = (1 << 50).to_bytes(8, "little")
    files.secret.write_bytes(lines[0] + b"\n" + encoded(bytes(content)).encode() + b"\n")
    with pytest.raises(SignatureError, match=f"asks for .* {1 << 50} bytes"):
        SecretKey.read(files.secret, lambda: "correct horse")


def test_a_plain_key_whose_halves_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    from edge_mtl.signing.text_files import decoded, encoded

    lines = (FILES / "plain.key").read_bytes().split(b"\n")
    content = bytearray(decoded(lines[1].decode(), 158, what="it"))
    content[70] ^= 1
    (tmp_path / "my.key").write_bytes(lines[0] + b"\n" + encoded(bytes(content)).encode() + b"\n")
    with pytest.raises(SignatureError, match="two halves"):
        SecretKey.read(tmp_path / "my.key", never)


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str | None = None) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    key = PublicKey.of(FILES / "plain.pub")
    monkeypatch.setattr(packages.importlib, "import_module", missing)
    monkeypatch.setattr(packages, "_installed_by", lambda module: [])
    with pytest.raises(BackendUnavailable, match=r'pip install "edge-mtl\[sign\]"'):
        key.accepts(bytes(64), b"")
