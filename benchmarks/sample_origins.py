"""Files of public repositories at a commit, from copies on this machine. Downloads nothing; knows no cameras or depth."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_mtl.errors import BuildError

__all__ = ["Origin", "OriginCopy"]

_GIT_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Origin:
    """A public repository on GitHub at a commit."""

    owner: str
    name: str
    commit: str

    @property
    def address(self) -> str:
        """Where to get it."""
        return f"https://github.com/{self.owner}/{self.name}"

    def copy_in(self, folder: Path) -> OriginCopy:
        """The copy below a folder of copies: OWNER+NAME, OWNER/NAME or NAME, or `repo` in one of these.

        Each may be a git repository, bare or not, read at the commit; or files without one, read as they are.

        Raises:
            BuildError: there is none, or one that does not have the commit.
        """
        for place in (folder / f"{self.owner}+{self.name}", folder / self.owner / self.name, folder / self.name):
            for path in (place, place / "repo"):
                git = next((one for one in (path / ".git", path) if _is_git(one)), None)
                if git is not None:
                    return _at_commit(self, git)
            if place.is_dir() and any(place.iterdir()):
                return OriginCopy(self, place, None)
        raise BuildError(
            f"{folder} should have {self.owner}+{self.name}, a copy of {self.address} at {self.commit[:7]}; found none. "
            f"Run: git clone {self.address} {folder / f'{self.owner}+{self.name}'}"
        )


@dataclass(frozen=True, slots=True)
class OriginCopy:
    """A copy of an origin.

    Attributes:
        path: the git directory, or the folder of files.
        commit: what is read of the git directory; None for files of which nothing says what they are.
    """

    origin: Origin
    path: Path
    commit: str | None

    def read(self, name: str) -> bytes:
        """The content of a file, by its path in the repository. Raises BuildError: it is not there, or only a pointer to it."""
        if self.commit is None:
            try:
                found = (self.path / name).read_bytes()
            except OSError as exc:
                raise self._missing(name, exc.strerror or str(exc)) from exc
        else:
            asked = _git(self.path, "cat-file", "blob", f"{self.commit}:{name}")
            if asked.returncode:
                raise self._missing(name, " ".join(asked.stderr.decode(errors="replace").split()))
            found = asked.stdout
        if found.startswith(b"version https://git-lfs"):
            raise self._missing(name, "it is a pointer of Git LFS")
        return found

    def stems(self, folder: str, suffix: str) -> list[str]:
        """Names without their suffix of the files of a folder, sorted. Raises BuildError: there are none."""
        if self.commit is None:
            there = self.path / folder
            names = [one.name for one in there.iterdir()] if there.is_dir() else []
        else:
            listed = _git(self.path, "ls-tree", "-z", "--name-only", self.commit, f"{folder}/")
            names = [PurePosixPath(one).name for one in listed.stdout.decode(errors="replace").split("\0") if one]
        found = sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))
        if not found:
            raise self._missing(f"{folder}/*{suffix}", "no such files")
        return found

    def _missing(self, name: str, why: str) -> BuildError:
        own = self.origin
        return BuildError(
            f"{self.path} should have {name} of {own.address} at {own.commit[:7]}; found none ({why}). Copies may lack "
            f"large files. Run: git clone {own.address}"
        )


def _at_commit(origin: Origin, git: Path) -> OriginCopy:
    if _git(git, "cat-file", "-e", f"{origin.commit}^{{commit}}").returncode:
        raise BuildError(
            f"{git} should have the commit {origin.commit} of {origin.address}; found none such. "
            f"Run: git --git-dir={git} fetch {origin.address} {origin.commit}"
        )
    return OriginCopy(origin, git, origin.commit)


def _is_git(path: Path) -> bool:
    """Whether this is a git directory itself: git would also take one further up."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir()


def _git(path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", f"--git-dir={path}", *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BuildError(f"git should read {path}; found that it does not ({exc}). Install git, or copy the files") from exc
