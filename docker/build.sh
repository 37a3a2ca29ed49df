#!/usr/bin/env bash
# Builds the images strata and strata-minio from scratch: nothing is pulled.
#
#   docker/build.sh                     build both images
#   docker/build.sh --folders DIR       only make what they are built from, DIR/strata and DIR/minio
#
# STRATA_IMAGE and MINIO_IMAGE name the images otherwise; STRATA_BINARY is a binary
# that was built already.
set -euo pipefail
cd "$(dirname "$0")/.."

folders=
if [[ ${1:-} == --folders ]]; then
	folders=${2:?docker/build.sh: --folders wants a folder}
elif (($# > 0)); then
	echo "docker/build.sh: unknown argument $1" >&2
	exit 2
fi
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
out=${folders:-$temp}
umask 022 # what goes into an image is read by another user
mkdir -p "$out"/{strata,minio}/{data,tmp} "$out/minio/data/archive"

if [[ -n ${STRATA_BINARY:-} ]]; then
	cp "$STRATA_BINARY" "$out/strata/strata"
else
	make build
	cp bin/strata "$out/strata/strata"
fi
cp docker/server.properties "$out/strata/"
cp docker/Dockerfile "$out/strata/Dockerfile"

integration/setup.sh minio
minio=${STRATA_MINIO:-${XDG_CACHE_HOME:-$HOME/.cache}/strata/bin/minio}
ln -f "$minio" "$out/minio/minio" 2>/dev/null || cp "$minio" "$out/minio/minio"
cp docker/minio/Dockerfile "$out/minio/Dockerfile"
chmod 755 "$out/strata/strata"

[[ -z $folders ]] || exit 0
export DOCKER_BUILDKIT=0 # the other builder pulls an image of its own
docker build --tag "${STRATA_IMAGE:-strata}" "$out/strata"
docker build --tag "${MINIO_IMAGE:-strata-minio}" "$out/minio"
