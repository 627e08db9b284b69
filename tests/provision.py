"""What the tests need from the system, installed by the tests themselves where that is possible.

On Debian and Ubuntu, as root, missing programs come from apt. Elsewhere a test that needs one is
skipped and names it; with CI set in the environment it fails instead.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

PACKAGES = {
    # command → Debian package
    "7z": "p7zip-full",
    "bash": "bash",
    "busybox": "busybox",
    "cc": "gcc",
    "chromium": "chromium",
    "dash": "dash",
    "mksh": "mksh",
    "openssl": "openssl",
    "proot": "proot",
    "qemu-aarch64": "qemu-user",
    "unzip": "unzip",
    "wine": "wine",
    "zsh": "zsh",
}

ARM64_PACKAGES = (
    "coreutils", "dash", "findutils", "gzip", "libacl1", "libattr1", "libc-bin", "libc6",
    "libgcc-s1", "libgmp10", "libgomp1", "libpcre2-8-0", "libselinux1", "libstdc++6", "sed", "tar",
    "zlib1g",
)  # fmt: skip

CACHE = Path(platformdirs.user_cache_dir("llamafile-build", appauthor=False)) / "tests"


def require(*commands: str) -> None:
    """Make sure that these commands are there; else skip the test, or fail it in CI."""
    missing = [command for command in commands if not shutil.which(command)]
    if missing and can_install():
        install([PACKAGES[command] for command in missing])
        missing = [command for command in commands if not shutil.which(command)]
    if missing:
        unavailable(f"not installed: {', '.join(missing)}")


def unavailable(what: str) -> None:
    """Skip the running test, or fail it in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (in CI nothing may be missing)")
    pytest.skip(what)


def can_install() -> bool:
    """Whether packages can be installed: apt is there and we are root."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(packages: list[str]) -> None:
    """Install Debian packages."""
    update_lists()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    command.append("-oDPkg::Lock::Timeout=600")
    if "wine" in packages:
        command.append("wine64")
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


@functools.cache
def update_lists() -> None:
    """Fetch apt's package lists, once a run."""
    subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)


def arm64_root() -> Path:
    """A folder with Debian's arm64 C library and basic tools, unpacked but not installed.

    apt keeps its own state for the other architecture in the cache, so the system stays as it is.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        unavailable("an arm64 root needs apt-get and dpkg-deb (Debian, Ubuntu)")
    sources = Path("/etc/os-release").read_bytes() + " ".join(ARM64_PACKAGES).encode()
    root = CACHE / f"arm64-root-{hashlib.sha256(sources).hexdigest()[:8]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # test runs beside each other share the cache
        if not (root / "complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            make_arm64_root(root)
    return root


def make_arm64_root(root: Path) -> None:
    """Download and unpack the packages into ``root``, which does not exist yet."""
    state = root / "apt"
    for folder in (state / "lists" / "partial", state / "debs" / "partial"):
        folder.mkdir(parents=True)
    (state / "status").touch()
    options = [
        "-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64",
        f"-oDir::State::Lists={state / 'lists'}", f"-oDir::State::status={state / 'status'}",
        f"-oDir::Cache={state}", "-oAPT::Sandbox::User=root",
    ]  # fmt: skip
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["apt-get", *options, "update", "-q"], **quiet)
    download = ["apt-get", *options, "download", "-q", *ARM64_PACKAGES]
    subprocess.run(download, cwd=state / "debs", **quiet)
    for package in sorted((state / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], **quiet)
    if not (root / "bin" / "sh").exists():
        (root / "bin" / "sh").symlink_to("dash")
    for folder in ("tmp", "proc", "dev", "root"):
        (root / folder).mkdir(exist_ok=True)
    shutil.rmtree(state)
    (root / "complete").touch()


@contextlib.contextmanager
def wine_prefix() -> Iterator[Path]:
    """A Wine prefix, made once and shared by the runs of this user.

    The last run that ends stops Wine and removes what built files unpacked there, so that the
    next one sees first starts.
    """
    import fcntl  # not on Windows, where this module must load, too

    prefix = CACHE / "wine"
    prefix.mkdir(parents=True, exist_ok=True)
    environment = wine_environment(prefix)
    with prefix.with_suffix(".lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with FileLock(prefix.with_suffix(".making")):
            if not (prefix / "system.reg").exists():
                subprocess.run(
                    ["wine", "wineboot", "--init"], env=environment, check=True,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300,
                )  # fmt: skip
                subprocess.run(["wineserver", "-w"], env=environment, check=False)
        yield prefix
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            subprocess.run(["wineserver", "-k"], env=environment, check=False)
            for unpacked in wine_caches(prefix):
                shutil.rmtree(unpacked, ignore_errors=True)


def wine_caches(prefix: Path) -> list[Path]:
    """The cache roots that built files have made in the prefix."""
    return list(prefix.glob("drive_c/users/*/AppData/Local/llamafile-build"))


def wine_environment(prefix: Path) -> dict[str, str]:
    """The environment for ``wine``: quiet, headless, without its offers to install more."""
    return {
        **os.environ,
        "WINEPREFIX": str(prefix),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=d",
        "DISPLAY": "",
    }
