#!/usr/bin/env bash
#
# Installs what building, running and testing kbqueue needs and this machine lacks: system packages
# (apt), and the library libpdfium.so (pip) in .pdfium/. Rust is checked, but never installed.
#
#   scripts/setup.sh [run|test]    run: enough to build and serve (the default); test: also to check and test
#
# `make serve` and `make test` call this every time, so it must be cheap: when nothing is missing it
# needs no network, no root and well under a second.
set -euo pipefail

# What the build and the programs need, by Debian's names.
packages=(
    gcc libc6-dev     # Rust's linker, and the C compiler for the SQLite that is built in
    make              # everything is started through the Makefile
    pkg-config        # finds tesseract and leptonica
    libclang-dev      # bindgen reads the C headers of both with libclang
    libleptonica-dev  # hands pictures to tesseract
    libtesseract-dev  # reads the text of scanned pages
    tesseract-ocr-eng # what tesseract knows about English, loaded at run time
    curl              # the server suggests curl commands when it starts
)
# What the tests need beside it. They start servers of their own and leave Debian's services alone: where
# nothing else uses these, `systemctl disable --now redis-server postgresql` ends them.
test_packages=(
    chromium # the browser that looks at the dashboard
    chromium-driver # lets tests steer it
    postgresql # the Postgres store
    redis-server # the Redis store
    util-linux # setpriv: PostgreSQL refuses to run as root
)
rust_minor=95 # Rust 1.95, as rust-version in Cargo.toml

# The wheel's checksum alone would do for a download. The library's own finds out, without the
# network, whether a file that is already there is whole and of this version.
pdfium_wheel=pypdfium2==5.15.2
pdfium_platform=manylinux_2_17_x86_64
pdfium_wheel_sha256=dc31aea5b0fb9fefc9b537a65f4113980b2c40798445736a7e6565bc85161e37
pdfium_sha256=c76dc0f7839644bfa7c3e3107a6068df714e339c861bb7d4519907b821d427f9
pdfium=.pdfium/libpdfium.so

main() {
    local mode=${1:-run}
    [[ $# -le 1 && ($mode == run || $mode == test) ]] || die "usage: scripts/setup.sh [run|test]"
    local fetch=no
    # Asked before the change of directory, because KBQUEUE_PDFIUM may be a relative path.
    has_pdfium || fetch=yes
    cd "$root"

    [[ $mode == run ]] || packages+=("${test_packages[@]}")
    install_packages "$fetch"
    check_rust "$mode"
    [[ $fetch == no ]] || fetch_pdfium
    say "everything that '$mode' needs is in place"
}

# --- System packages ---------------------------------------------------------

install_packages() {
    local fetch=$1 missing=()
    if ! command -v dpkg-query >/dev/null; then
        say "this system has no dpkg, so these Debian packages, or what they are called here, are yours to install: ${packages[*]}"
        return
    fi
    # One call for all of them. It fails when it does not know a package, which is no error here.
    local installed package
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
    for package in "${packages[@]}"; do
        [[ $'\n'$installed$'\n' == *$'\n'"installed $package"$'\n'* ]] || missing+=("$package")
    done
    # Python is only needed for the download, and any Python with pip will do, whoever installed it.
    if [[ $fetch == yes ]] && ! python_with_pip >/dev/null; then
        missing+=(python3 python3-pip)
    fi
    [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
}

apt_install() {
    local as_root=() command="apt-get install -y --no-install-recommends $*"
    if [[ $EUID -ne 0 ]]; then
        command -v sudo >/dev/null ||
            die "these system packages are missing: $*. There is no sudo here; as root, run: apt-get update && $command"
        as_root=(sudo)
        command="sudo $command"
    fi
    say "installing system packages with ${as_root[*]:+${as_root[*]} }apt-get: $*"
    # A machine that has just started often holds the lock for its own updates, hence the patience.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    # A failing update (one dead mirror is enough) says nothing yet about the packages wanted here.
    "${apt[@]}" update || say "apt-get update failed; trying with the package lists that are there"
    "${apt[@]}" install --no-install-recommends "$@" ||
        die "these system packages could not be installed: $*. The reason is above (on Ubuntu, some of them are in 'universe'). To try by hand: $command"
}

# --- Rust --------------------------------------------------------------------

check_rust() {
    local mode=$1 version major minor
    local how="install Rust with rustup (https://rustup.rs), then open a new shell"
    command -v cargo >/dev/null ||
        die "cargo is missing: it is not in PATH. To get it, $how; if rustup is installed already, run: . \"\$HOME/.cargo/env\""
    version=$(cargo --version) ||
        die "cargo is there but does not run; it says why above. With rustup, run: rustup default stable"
    # "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"
    IFS=' .' read -r _ major minor _ <<<"$version"
    if ((major == 1 && minor < rust_minor)); then
        die "Rust 1.$rust_minor or newer is missing: this is $version. With rustup, run: rustup update stable. The Rust of a distribution is often too old; to get a newer one, $how"
    fi
    [[ $mode == test ]] || return 0
    cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing. Run: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || die "clippy is missing. Run: rustup component add clippy"
}

# --- libpdfium.so ------------------------------------------------------------

has_pdfium() {
    if [[ -n ${KBQUEUE_PDFIUM:-} ]]; then
        # Not answered with a download: the programs would then run on a library nobody asked for.
        [[ -f $KBQUEUE_PDFIUM ]] ||
            die "libpdfium.so is missing: KBQUEUE_PDFIUM is '$KBQUEUE_PDFIUM', and there is no such file. Correct it, or unset it to have the library fetched"
        return 0
    fi
    [[ -f $root/$pdfium && $(sha256 "$root/$pdfium") == "$pdfium_sha256" ]]
}

fetch_pdfium() {
    local otherwise="or point KBQUEUE_PDFIUM to a libpdfium.so of your own"
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "libpdfium.so is missing: there is a pinned download for Linux on x86_64 only, and this is $(uname -sm). Get one for this machine and set KBQUEUE_PDFIUM to its path"
    local python
    python=$(python_with_pip) ||
        die "libpdfium.so is missing, and so is a python3 with pip to fetch it. Install them (Debian: apt-get install python3 python3-pip), $otherwise"
    if [[ -e $pdfium ]]; then
        say "$pdfium is damaged or of another version; fetching it again"
    else
        say "fetching $pdfium out of the wheel $pdfium_wheel"
    fi

    # Everything happens in a directory beside the target, so that the last step is a rename: whoever
    # looks, and whenever this is killed, $pdfium is complete or absent. A kill that cannot be caught
    # leaves the directory; the next download removes it, but not one that is still being filled.
    mkdir -p .pdfium
    find .pdfium -maxdepth 1 -name 'download.*' -mmin +60 -exec rm -rf {} +
    download=$(mktemp -d .pdfium/download.XXXXXX)
    trap 'rm -rf "$download"' EXIT

    # The platform is named so that every Python gets the very file whose checksum is pinned.
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform "$pdfium_platform" --dest "$download" "$pdfium_wheel" ||
        die "libpdfium.so is missing, and pip could not download $pdfium_wheel; it says why above. Run scripts/setup.sh again when the network is there, $otherwise"
    local wheel=("$download"/*.whl)
    check_sha256 "${wheel[0]}" "$pdfium_wheel_sha256"
    "$python" -m zipfile -e "${wheel[0]}" "$download" ||
        die "libpdfium.so could not be unpacked from the wheel; python3 says why above. Is the disk full?"
    check_sha256 "$download/pypdfium2_raw/libpdfium.so" "$pdfium_sha256"
    mv -f "$download/pypdfium2_raw/libpdfium.so" "$pdfium"
}

# Prints the first Python that has pip. Debian's is tried by its path too, because another python3
# without pip may stand before it in PATH.
python_with_pip() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    return 1
}

check_sha256() {
    local file=$1 expected=$2 found
    found=$(sha256 "$file")
    [[ $found == "$expected" ]] ||
        die "libpdfium.so is missing: the download ${file##*/} has the SHA-256 checksum $found, but $expected is pinned, so it was thrown away. Ask whoever runs the package index or mirror that pip uses here, or point KBQUEUE_PDFIUM to a libpdfium.so of your own"
}

# Read from standard input, because sha256sum marks unusual file names in its output.
sha256() {
    local sum
    sum=$(sha256sum <"$1")
    printf '%s\n' "${sum%% *}"
}

# --- Output ------------------------------------------------------------------

# To standard error, so that the server's standard output is its own under `make serve`.
say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
main "$@"
