#!/usr/bin/env bash
# Installs what the tests and checks need and is not there yet: as root from the
# distribution's packages, else it names the missing package and exits 1.
# Nothing is done twice, so that a later run takes no time.
#
#   integration/setup.sh PART...     parts: kcat kafka minio gcc protoc docker
set -euo pipefail

cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strata
kafka_version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' integration/kafka/pom.xml)
protoc_gen_go_version=$(go list -m -f '{{.Version}}' google.golang.org/protobuf)

# Without ",direct" a module that is missing is an answer and not a hanging git.
GOPROXY=$(go env GOPROXY | sed 's/[,|]direct//g')
export GOPROXY

say() { printf 'setup: %s\n' "$*" >&2; }

# One of us at a time: packages of tests and two shells may ask at once.
mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock 9

installed() { type -P "$1" >/dev/null; }

# packages NAME... installs Debian packages, with apt's own progress.
packages() {
	if [[ $EUID -ne 0 ]]; then
		say "missing: $*. Install it (on Debian: sudo apt-get install $*) and try again."
		exit 1
	fi
	if ! installed apt-get; then
		say "missing: $*, and there is no apt-get to install it with."
		exit 1
	fi
	say "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update </dev/null >&2 9>&-
	apt-get install -y --no-install-recommends "$@" </dev/null >&2 9>&- # a daemon it starts must not hold the lock
}

need_kcat() { installed kcat || packages kcat; }

need_gcc() { installed gcc || packages gcc libc6-dev; }

need_protoc() {
	installed protoc || packages protobuf-compiler
	local tool=$cache/bin/protoc-gen-go
	if [[ ! -x $tool || $("$tool" --version) != "protoc-gen-go $protoc_gen_go_version" ]]; then
		say "building protoc-gen-go $protoc_gen_go_version"
		(cd / && GOBIN=$cache/bin GOFLAGS=-buildvcs=false go install "google.golang.org/protobuf/cmd/protoc-gen-go@$protoc_gen_go_version")
	fi
}

need_kafka() {
	installed java || packages default-jre-headless
	local libs=$cache/kafka-$kafka_version/libs
	[[ -d $libs ]] && return
	installed mvn || packages maven
	say "fetching Kafka $kafka_version and its tools into $libs"
	local fresh
	fresh=$(mktemp -d "$cache/kafka.XXXXXX")
	mvn --batch-mode --file integration/kafka/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$fresh/libs" </dev/null >&2
	chmod 755 "$fresh"
	mv -T "$fresh" "${libs%/libs}" # whole or not at all
}

# The test server is built by the package that runs it; alone, so that its progress is seen.
need_minio() {
	[[ -n ${STRATA_TEST_MINIO:-} || -x $cache/bin/minio ]] && return
	go test -v -count=1 -timeout 30m -run '^TestServersOfBothKinds$' ./tiering/object/objecttest/minio/ >&2
}

need_docker() { installed dockerd || packages docker.io; }

for part in "$@"; do
	case $part in
	kcat | kafka | minio | gcc | protoc | docker) "need_$part" ;;
	*)
		say "unknown part $part: want kcat, kafka, minio, gcc, protoc or docker"
		exit 2
		;;
	esac
done
