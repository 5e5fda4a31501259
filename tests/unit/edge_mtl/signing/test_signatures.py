"""Signatures of minisign: both programs read what the other wrote."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_mtl.errors import SignatureError
from edge_mtl.signing.keys import PublicKey, ScryptCost, SecretKey
from edge_mtl.signing.signatures import Signature, Signed

FILES = Path(__file__).parent / "minisign"
MESSAGE = (FILES / "message.json").read_bytes()
MINISIGN = shutil.which("minisign")
with_minisign = pytest.mark.skipif(MINISIGN is None, reason="needs the program minisign: apt-get install minisign")


def check(payload: bytes, key: PublicKey, message: bytes = MESSAGE) -> Signed:
    return Signature.read(payload, what="it").check(message, key, what="it", of="message.json")


@pytest.mark.parametrize("name", ["plain", "covered"])
def test_a_signature_of_minisign_holds(name: str) -> None:
    found = check((FILES / f"{name}.minisig").read_bytes(), PublicKey.of(FILES / f"{name}.pub"))
    assert found.key == PublicKey.of(FILES / f"{name}.pub").name
    assert name != "plain" or found.comment == "made by minisign 0.11"


def test_what_is_made_is_what_minisign_makes() -> None:
    key = SecretKey.read(FILES / "plain.key", str)
    made = Signature.make(MESSAGE, key, comment="made by minisign 0.11").to_file().splitlines()
    assert made[1:] == (FILES / "plain.minisig").read_bytes().splitlines()[1:], "Ed25519 has one signature of a message"


def test_another_key_is_named() -> None:
    with pytest.raises(SignatureError, match=r"of the key 9F0EC0EE1AE16FFE; 46AC8B6087E1FBD7 is expected"):
        check((FILES / "plain.minisig").read_bytes(), PublicKey.of(FILES / "covered.pub"))


def test_another_key_with_the_same_id_is_refused() -> None:
    named = PublicKey.of(FILES / "plain.pub")
    with pytest.raises(SignatureError, match="does not hold"):
        check((FILES / "plain.minisig").read_bytes(), PublicKey(named.identity, PublicKey.of(FILES / "covered.pub").value))


def test_an_altered_message_comment_or_signature_is_refused() -> None:
    key, payload = PublicKey.of(FILES / "plain.pub"), (FILES / "plain.minisig").read_bytes()
    with pytest.raises(SignatureError, match=r"message\.json or the signature was altered"):
        check(payload, key, MESSAGE + b" ")
    with pytest.raises(SignatureError, match="trusted comment was altered"):
        check(payload.replace(b"0.11", b"0.12"), key)
    with pytest.raises(SignatureError, match="signature was altered"):
        check(payload.replace(b"RUT+b+Ea7sAOn34", b"RUT+b+Ea7sAOn35"), key)


def test_the_old_kind_of_a_signature_is_refused_with_what_to_do() -> None:
    with pytest.raises(SignatureError, match="without -l"):
        check((FILES / "legacy.minisig").read_bytes(), PublicKey.of(FILES / "plain.pub"))


def test_the_untrusted_comment_is_not_told() -> None:
    lines = (FILES / "plain.minisig").read_bytes().split(b"\n")
    found = check(b"\n".join([b"untrusted comment: signed by God", *lines[1:]]), PublicKey.of(FILES / "plain.pub"))
    assert found == Signed("9F0EC0EE1AE16FFE", "made by minisign 0.11")


@pytest.mark.parametrize("comment", ["two\nlines", "\x1b[2J", "carriage\r", "x" * 9000])
def test_a_comment_that_does_not_fit_is_refused(comment: str) -> None:
    with pytest.raises(SignatureError, match="control characters"):
        Signature.make(MESSAGE, SecretKey.new(), comment=comment)


def minisign(*arguments: object, words: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(MINISIGN), *map(str, arguments)], input=words, capture_output=True, text=True, timeout=60)


@with_minisign
@pytest.mark.parametrize("comment", ["", "tabs\tand ümläuts", "x" * 8100])
def test_minisign_accepts_what_is_made_and_refuses_it_altered(tmp_path: Path, comment: str) -> None:
    key = SecretKey.new()
    (tmp_path / "m").write_bytes(MESSAGE)
    (tmp_path / "m.minisig").write_bytes(Signature.make(MESSAGE, key, comment=comment).to_file())
    (tmp_path / "pub").write_bytes(key.public.to_file())
    for given in (("-p", tmp_path / "pub"), ("-P", key.public.text)):
        done = minisign("-Vm", tmp_path / "m", *given)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"Trusted comment: {comment}\n")
    (tmp_path / "m").write_bytes(MESSAGE + b"\n")
    assert minisign("-Vm", tmp_path / "m", "-p", tmp_path / "pub").returncode != 0


@with_minisign
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_minisign_signs_with_a_key_that_is_made_here(tmp_path: Path, passphrase: str | None) -> None:
    key = SecretKey.new()
    (tmp_path / "m").write_bytes(MESSAGE)
    (tmp_path / "key").write_bytes(key.to_file(passphrase, cost=ScryptCost(1 << 19, 1 << 24)))
    done = minisign("-Sm", tmp_path / "m", "-s", tmp_path / "key", words=f"{passphrase}\n")
    assert done.returncode == 0, done.stderr
    assert check((tmp_path / "m.minisig").read_bytes(), key.public).key == key.public.name
