"""Which plans this user built: a plan is a program, so one that came with a bundle runs only where its user says so.

A receipt is an empty file in the user's own cache, named by the plan's digest. Knows files; knows no runtime.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.engine_store.private_files import check_owner
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.files import write_atomic

__all__ = ["TrustedPlans"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 4096


@dataclass(frozen=True, slots=True)
class TrustedPlans:
    """TrustedPlans in `folder`."""

    folder: Path

    def give(self, sha256: str) -> None:
        """This user has built the plan with that digest.

        Raises:
            BuildError: it cannot be written.
            BundleError: the folder belongs to another user.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owner(self.folder, remedy="Delete it and build the engine again.")
            write_atomic(self.folder / sha256, b"")
        except OSError as exc:
            raise BuildError(
                f"That this plan was built here could not be noted in {self.folder} ({exc.strerror or exc}). "
                "Set XDG_CACHE_HOME to a folder that can be written."
            ) from exc
        self._sweep()

    def has(self, sha256: str) -> bool:
        """Whether this user built the plan with that digest."""
        if not _SHA256.fullmatch(sha256) or not (self.folder / sha256).is_file():
            return False
        try:
            check_owner(self.folder, remedy="")
        except BundleError:
            return False
        return True

    def take_back(self, sha256: str) -> None:
        """Forget a plan."""
        with suppress(OSError):
            (self.folder / sha256).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """The oldest go where there are very many; their plans have to be built again."""
        with suppress(OSError):
            found = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in found[:-_MOST]:
                path.unlink(missing_ok=True)
