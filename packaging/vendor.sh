#!/bin/bash
# Fetches the sources of the C libraries into a directory, for an sdist that builds anywhere:
# libev and inih from Debian's source packages, llhttp from the httptools of the package index.
#
#     packaging/vendor.sh DIRECTORY PYTHON
#
# The system's own list of sources stays as it is.
set -euo pipefail
directory=$1 python=$2 suite=trixie

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"

# The mirror that this system uses.
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | sort -u | grep -v security | head -n 1)
[ -n "$site" ] || { echo "vendor.sh: this needs apt-get with a mirror of Debian" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keyring check-valid-until=no] $site $suite main" >"$work/list"
apt=(apt-get -q -o "Dir::Etc::SourceList=$work/list" -o Dir::Etc::SourceParts=/dev/null
     -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)
"${apt[@]}" update >/dev/null
(cd "$work" && "${apt[@]}" source --download-only --tar-only libev libinih >apt.log 2>&1 || { cat apt.log >&2; exit 1; })
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
    -d "$work" -r requirements-llhttp.txt

rm -rf "$directory"
mkdir -p "$directory"/{libev,inih,llhttp}
# take ARCHIVE LIBRARY PATTERN...: those files, without their folders
take() {
    tar -xzf "$1" -C "$directory/$2" --transform='s|.*/||' --wildcards "${@:3}"
}
take "$work"/libev_*.orig.tar.gz libev '*/ev*.[ch]' '*/LICENSE'
take "$work"/libinih_*.orig.tar.gz inih '*/ini.[ch]' '*/LICENSE.txt'
take "$work"/httptools-*.tar.gz llhttp '*/vendor/llhttp/include/*.h' '*/vendor/llhttp/src/*.c' \
    '*/vendor/llhttp/LICENSE*'
rm -f "$directory"/libev/ev++.h
echo "vendor.sh: $(cd "$work" && ls ./*.orig.tar.gz httptools-*.tar.gz | tr '\n' ' ')in $directory"
