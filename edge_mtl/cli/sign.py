"""`edge-mtl sign`: a key of one's own, and the signature of a bundle by it."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import JsonOption, QuietOption, UsageError, block
from edge_mtl.cli.terminal import Terminal

__all__ = ["sign"]

_LEAST = 8
"""Characters of a passphrase."""


@app.command(
    short_help="Sign a bundle, or make the key for it.",
    epilog=block(
        "Examples:",
        "edge-mtl sign --new-key ~/keys/",
        "edge-mtl sign bundles/rooms-b0 --key ~/keys/edge-mtl.key",
        "edge-mtl verify bundles/rooms-b0 --signature --public-key ~/keys/edge-mtl.pub",
    ),
)
def sign(
    bundle: Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help="Folder of the bundle.", show_default=False)] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The secret key to sign with.", show_default=False)
    ] = None,
    comment: Annotated[
        str | None,
        typer.Option(
            "--comment",
            metavar="TEXT",
            help="Signed with it; default: time, name and revision of the bundle.",
            show_default=False,
        ),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(
            "--new-key",
            metavar="DIR|FILE",
            help="Make a key: DIR/edge-mtl.key or FILE, and beside it the public one, .pub.",
            show_default=False,
        ),
    ] = None,
    unencrypted: Annotated[
        bool, typer.Option("--unencrypted", help="For --new-key: no passphrase; whoever has the file can sign.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sign a bundle, so that a robot can refuse every other; or make the key for it.

    The signature is of the manifest, which has the size and SHA-256 of every file, and lies beside it as
    manifest.json.minisig: minisign -Vm manifest.json -p edge-mtl.pub checks it too. Keys are those of minisign. A passphrase is
    asked for on the terminal, or read as a line of standard input where that is none.
    """
    terminal = Terminal(json_output=json, quiet=quiet)
    if new_key is not None:
        if bundle is not None or key is not None or comment is not None:
            raise UsageError("--new-key makes a key and signs nothing: leave BUNDLE, --key and --comment out.")
        _make(terminal, new_key, unencrypted=unencrypted)
        return
    if bundle is None or key is None or unencrypted:
        raise UsageError("expected BUNDLE and --key FILE, or --new-key DIR with or without --unencrypted.")
    from edge_mtl.signing.bundles import sign_bundle
    from edge_mtl.signing.keys import SecretKey

    secret = SecretKey.read(key, lambda: _passphrase(f"Passphrase of {key}: "))
    if key.stat().st_mode & 0o077:
        terminal.warn(f"{key} can be read by other users. Run: chmod 600 {key}")
    made = sign_bundle(bundle, secret, comment=comment)
    assert made.signed is not None
    if terminal.json_output:
        terminal.record({"bundle": str(made.path), "key": made.signed.key, "comment": made.signed.comment})
    terminal.show(
        f"{bundle}, revision {made.manifest.revision}, is signed by the key {made.signed.key}.",
        f"Trusted comment: {made.signed.comment}",
    )


def _make(terminal: Terminal, place: str, *, unencrypted: bool) -> None:
    from edge_mtl.signing.bundles import key_files, write_new_key

    files = key_files(place)
    passphrase = None
    if not unencrypted:
        passphrase = _passphrase(f"Passphrase for {files.secret}, at least {_LEAST} characters: ")
        if len(passphrase) < _LEAST:
            raise UsageError(f"a passphrase of at least {_LEAST} characters is expected. For a key without one: --unencrypted")
        if sys.stdin.isatty() and _passphrase("Once more: ") != passphrase:
            raise UsageError("the two passphrases differ. Nothing was written.")
    made = write_new_key(files, passphrase)
    bare = " without a passphrase" if unencrypted else ""
    if terminal.json_output:
        content = {"secret": str(files.secret), "public": str(files.public)}
        terminal.record({**content, "key": made.public.name, "public_key": made.public.text})
    terminal.show(
        f"{files.secret} is the secret key {made.public.name}{bare}: keep it from robots.",
        f"{files.public} is the public one, for them: {made.public.text}",
    )


def _passphrase(prompt: str) -> str:
    """Asked for without an echo, or a line of standard input. Raises UsageError: there is none."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    line = sys.stdin.readline()
    if not line:
        raise UsageError("a passphrase is needed: run it in a terminal, or write it into standard input, never as an argument.")
    return line.rstrip("\n")
