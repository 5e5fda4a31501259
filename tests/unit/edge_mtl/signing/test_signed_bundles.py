"""Signed bundles: who refuses what, what becomes of a signature when a bundle changes, and which engines run."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mtl import Engine
from edge_mtl.bundle import MANIFEST, SIGNATURE, Bundle, find
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import changing, commit, rollback
from edge_mtl.errors import BundleError, EngineMismatch, SignatureError
from edge_mtl.signing.bundles import sign_bundle
from edge_mtl.signing.keys import SecretKey
from tests.command_line import assert_failed, edge_mtl
from tests.unit.edge_mtl.signing.test_signatures import FILES, minisign, with_minisign

KEY = SecretKey(b"testkey1", bytes(range(32)))
GOLDEN_FILE = "golden/000.npz"


@pytest.fixture
def signed(own_bundle: Bundle) -> Bundle:
    return sign_bundle(own_bundle.path, KEY)


@pytest.mark.parametrize("call", ["write", "replace"])
def test_a_signing_that_is_cut_short_leaves_a_bundle_that_verifies(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What a killed process leaves lies beside the bundle, as nothing that is not listed may lie inside."""

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(os, "unlink", lambda path: None)
        killed.setattr(os, "fsync" if call == "write" else "replace", die)
        with pytest.raises(KeyboardInterrupt):
            sign_bundle(own_bundle.path, KEY)
    assert len(list(own_bundle.path.parent.glob(".tmp-edge-mtl-*"))) == 1
    own_bundle.verify()
    (own_bundle.path / ".tmp-edge-mtl-0123456789abcdef").write_bytes(b"of a version that wrote it inside")
    assert sign_bundle(own_bundle.path, KEY).signed is not None


def test_a_bundle_that_was_replaced_since_it_was_opened_is_not_the_signed_one(signed: Bundle) -> None:
    assert signed.require_signed(KEY.public) == signed
    with pytest.raises(BundleError, match="was replaced since it was opened"):
        replace(signed, digest="0" * 64).require_signed(KEY.public)


def test_a_signed_bundle_opens_with_its_signers_key(signed: Bundle) -> None:
    assert signed.signed is not None
    assert signed.signed.key == KEY.public.name
    assert f"bundle:{signed.name}\trevision:1\thashed" in signed.signed.comment
    signed.verify()
    assert Bundle.open(signed.path).signed is None, "nobody asked"
    assert find(signed.path, public_key=KEY.public.text) == signed
    with Engine(signed.path, precision="fp32", device="cpu", public_key=KEY.public):
        pass


def test_an_unsigned_bundle_is_refused_and_its_manifest_is_not_read(own_bundle: Bundle) -> None:
    (own_bundle.path / MANIFEST).write_text("{")
    with pytest.raises(SignatureError, match=rf"not signed.*edge-mtl sign {own_bundle.path}"):
        Bundle.open(own_bundle.path, public_key=KEY.public)
    with pytest.raises(SignatureError, match="not signed"):
        Engine(own_bundle.path, public_key=KEY.public)


def test_a_bundle_that_was_opened_without_a_key_is_checked_by_the_engine(signed: Bundle) -> None:
    plain = Bundle.open(signed.path)
    with pytest.raises(SignatureError, match="is expected"):
        Engine(plain, public_key=SecretKey.new().public)
    payload = (signed.path / MANIFEST).read_bytes()
    (signed.path / MANIFEST).write_bytes(payload.replace(b'"revision": 1', b'"revision": 2'))
    altered = Bundle.open(signed.path)
    (signed.path / MANIFEST).write_bytes(payload)
    with pytest.raises(BundleError, match="was replaced"):
        Engine(altered, public_key=KEY.public)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes() + b" "), "does not hold"),
        (lambda path: (path / SIGNATURE).write_bytes((path / SIGNATURE).read_bytes()[:-1]), "malformed"),
        (lambda path: (path / SIGNATURE).write_bytes(b"x" * 20_000), "larger than"),
        (lambda path: (path / GOLDEN_FILE).write_bytes(b"x"), "was altered"),
        (lambda path: (path / "more.bin").write_bytes(b"x"), "not listed"),
        (lambda path: (path / "more").symlink_to("/etc"), "not listed"),
        (lambda path: os.mkfifo(path / "more"), "not listed"),
    ],
)
def test_whatever_is_altered_is_refused_by_the_command(signed: Bundle, damage, message: str) -> None:
    fine = edge_mtl("verify", signed.path, "--signature", "--public-key", KEY.public.text)
    assert fine.code == 0, fine.err
    assert KEY.public.name in fine.out
    damage(signed.path)
    outcome = edge_mtl("verify", signed.path, "--signature", "--public-key", KEY.public.text)
    assert_failed(outcome, outcome.code, message)
    assert outcome.code in (BundleError.exit_code, SignatureError.exit_code)


def test_the_command_says_who_signed_as_json(signed: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pub").write_bytes(KEY.public.to_file())
    outcome = edge_mtl("verify", signed.path, "--signature", "--public-key", tmp_path / "pub", "--json")
    (record,) = outcome.records
    assert record["key"] == KEY.public.name
    assert record["files"] == len(signed.manifest.files)
    assert record["comment"].startswith("timestamp:")


def test_signature_and_key_belong_together(signed: Bundle) -> None:
    assert_failed(edge_mtl("verify", signed.path, "--signature"), 2, "--public-key")
    assert_failed(edge_mtl("verify", signed.path, "--public-key", KEY.public.text), 2, "--signature")


def test_a_damaged_bundle_is_not_signed(own_bundle: Bundle) -> None:
    (own_bundle.path / GOLDEN_FILE).write_bytes(b"x")
    with pytest.raises(BundleError, match="was altered"):
        sign_bundle(own_bundle.path, KEY)
    assert not (own_bundle.path / SIGNATURE).exists()


def test_a_manifest_that_lists_its_signature_is_not_signed(own_bundle: Bundle) -> None:
    path = own_bundle.path / MANIFEST
    content = json.loads(path.read_bytes())
    content["files"][SIGNATURE] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="cannot be signed"):
        sign_bundle(own_bundle.path, KEY)


def test_a_new_revision_is_not_signed_and_says_so_and_the_one_before_still_is(signed: Bundle) -> None:
    with changing(signed.path) as current, pytest.warns(UserWarning, match=r"revision 2, which is not signed.*edge-mtl sign"):
        made = commit(current, lambda folder: None, accuracy={})
    assert not (made.path / SIGNATURE).exists()
    with pytest.raises(SignatureError, match="not signed"):
        Bundle.open(made.path, public_key=KEY.public)
    rollback(made.path)
    assert Bundle.open(made.path, public_key=KEY.public).manifest.revision == 1


def test_a_new_revision_of_an_unsigned_bundle_says_nothing(own_bundle: Bundle) -> None:
    with changing(own_bundle.path) as current, warnings.catch_warnings():
        warnings.simplefilter("error")
        commit(current, lambda folder: None, accuracy={})


def test_the_command_that_writes_a_card_says_that_the_signature_is_gone(signed: Bundle) -> None:
    outcome = edge_mtl("verify", signed.path, "--max-drop", "none")
    assert outcome.code == 0, outcome.err
    if Bundle.open(signed.path).manifest.revision > 1:
        assert "which is not signed" in outcome.err


def test_an_engine_of_this_user_runs_and_one_that_came_along_does_not(
    signed: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = edge_mtl("build-engine", signed.path, "--fp32", "--backend", "onnxruntime")
    assert built.code == 0, built.err
    opened = Bundle.open(signed.path, public_key=KEY.public)
    (record, *_) = EngineStore(opened).list()
    assert EngineStore(opened).load(record)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user's"))
    with pytest.raises(EngineMismatch, match=r"not covered by the bundle's signature.*build-engine"):
        EngineStore(opened).load(record)
    assert EngineStore(Bundle.open(signed.path)).load(record), "without a key engines are trusted as ever"
    assert EngineStore(opened).load(record, trust_engine=True)


def test_a_key_is_made_and_signs_on_the_command_line(own_bundle: Bundle, tmp_path: Path) -> None:
    made = edge_mtl("sign", "--new-key", f"{tmp_path}/keys/", "--unencrypted", "--json")
    (record,) = made.records
    assert Path(record["secret"]).stat().st_mode & 0o077 == 0
    outcome = edge_mtl("sign", own_bundle.path, "--key", record["secret"], "--comment", "for robot 7")
    assert outcome.code == 0, outcome.err
    assert Bundle.open(own_bundle.path, public_key=record["public_key"]).signed.comment == "for robot 7"  # type: ignore[union-attr]
    assert_failed(edge_mtl("sign", "--new-key", f"{tmp_path}/keys/", "--unencrypted"), 17, "never overwritten")
    os.chmod(record["secret"], 0o644)
    assert "chmod 600" in edge_mtl("sign", own_bundle.path, "--key", record["secret"]).err


@pytest.mark.parametrize(
    "arguments",
    [(), ("--key", "k"), ("bundle",), ("--new-key", "k", "--key", "k"), ("bundle", "--key", "k", "--unencrypted")],
)
def test_arguments_that_make_no_sense_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert_failed(edge_mtl("sign", *arguments), 2)


def test_a_passphrase_is_read_from_standard_input_and_never_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert_failed(edge_mtl("sign", "--new-key", tmp_path / "my.key"), 2, "never as an argument")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert_failed(edge_mtl("sign", "--new-key", tmp_path / "my.key"), 2, "at least 8")
    assert not (tmp_path / "my.key").exists()


@with_minisign
def test_minisign_checks_a_bundle_and_a_bundle_that_it_signed_opens(own_bundle: Bundle) -> None:
    sign_bundle(own_bundle.path, SecretKey.read(FILES / "plain.key", str))
    assert minisign("-Vm", own_bundle.path / MANIFEST, "-p", FILES / "plain.pub").returncode == 0
    assert minisign("-Sm", own_bundle.path / MANIFEST, "-s", FILES / "plain.key", "-t", "by hand").returncode == 0
    assert Bundle.open(own_bundle.path, public_key=FILES / "plain.pub").signed.comment == "by hand"  # type: ignore[union-attr]


def test_a_copy_of_a_signed_bundle_is_signed(signed: Bundle, tmp_path: Path) -> None:
    shutil.copytree(signed.path, tmp_path / "copy")
    Bundle.open(tmp_path / "copy", public_key=KEY.public).verify()
