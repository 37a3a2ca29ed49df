#!/usr/bin/env bash
# Installs what the tests and checks need and is not there yet: as root from the
# distribution's packages, else it names the missing package and exits 1.
# Nothing is done twice, so that a later run takes no time.
#
#   integration/setup.sh PART...     parts: kcat kafka minio gcc protoc docker compose perf,
#                                    and of the client matrix: python kafkajs sarama
set -euo pipefail

cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strata
kafka_version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' integration/kafka/pom.xml)

# Without ",direct" a module that is missing is an answer and not a hanging git.
GOPROXY=$(go env GOPROXY | sed 's/[,|]direct//g')
export GOPROXY

say() { printf 'setup: %s\n' "$*" >&2; }

# One of us at a time: packages of tests and two shells may ask at once.
mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock 9

libs=$cache/kafka-$kafka_version/libs
missing=()
# want TOOL PACKAGE... notes the packages of a tool that is not there.
want() { type -P "$1" >/dev/null || missing+=("${@:2}"); }

for part in "$@"; do
	case $part in
	kcat) want kcat kcat ;;
	kafka)
		want java default-jre-headless
		[[ -d $libs ]] || want mvn maven
		;;
	minio | sarama) ;;
	# Debian's python3 comes without what makes an environment.
	python) python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv) ;;
	kafkajs)
		want node nodejs
		want npm npm
		;;
	gcc) want gcc gcc libc6-dev ;;
	protoc) want protoc protobuf-compiler ;;
	docker) want dockerd docker.io ;;
	compose) want docker-compose docker-compose ;;
	perf) want perf linux-perf ;;
	*)
		say "unknown part $part: want kcat, kafka, minio, gcc, protoc, docker, compose, perf, python, kafkajs or sarama"
		exit 2
		;;
	esac
done

if ((${#missing[@]} > 0)); then
	if [[ $EUID -ne 0 ]]; then
		say "missing: ${missing[*]}. Install with: sudo apt-get install ${missing[*]}"
		exit 1
	fi
	if ! type -P apt-get >/dev/null; then
		say "missing: ${missing[*]}, and there is no apt-get to install them with"
		exit 1
	fi
	say "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# A daemon that a package starts must not hold the lock: 9>&-.
	apt-get update </dev/null >&2 9>&-
	apt-get install -y --no-install-recommends "${missing[@]}" </dev/null >&2 9>&-
fi

make_protoc() {
	local tool=$cache/bin/protoc-gen-go version
	version=$(go list -m -f '{{.Version}}' google.golang.org/protobuf)
	[[ -x $tool && $("$tool" --version) == "protoc-gen-go $version" ]] && return
	say "building protoc-gen-go $version"
	(cd / && GOBIN=$cache/bin GOFLAGS=-buildvcs=false go install "google.golang.org/protobuf/cmd/protoc-gen-go@$version")
}

make_kafka() {
	[[ -d $libs ]] && return
	say "fetching Kafka $kafka_version and its tools into $libs"
	local fresh
	fresh=$(mktemp -d "$cache/kafka.XXXXXX")
	mvn --batch-mode --file integration/kafka/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$fresh/libs" </dev/null >&2
	chmod 755 "$fresh"
	mv -T "$fresh" "${libs%/libs}" # whole or not at all
}

# The test server is built by the package that runs it; alone, so that its progress is seen.
make_minio() {
	[[ -x $cache/bin/minio ]] && return
	go test -v -count=1 -timeout 30m -run '^TestServersOfBothKinds$' ./tiering/object/objecttest/minio/ >&2
}

# fresh_client PART FILE... says whether the folder of a client's part must be made anew: it is
# not there, or was made from other versions of the files. have_client notes that it is whole.
fresh_client() {
	local part=$1 sum
	sum=$(cd "integration/matrix" && cat "${@:2}" | sha256sum)
	client=$cache/clients/$part
	[[ -f $client/made-from && $(<"$client/made-from") == "$sum" ]] && return 1
	say "installing the clients of part $part into $client"
	rm -rf "$client"
	mkdir -p "$client"
	made_from=$sum
}
have_client() { printf '%s\n' "$made_from" >"$client/made-from"; }

make_python() {
	fresh_client python python/requirements.txt || return 0
	python3 -m venv "$client" >&2
	"$client/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --requirement integration/matrix/python/requirements.txt >&2
	have_client
}

make_kafkajs() {
	fresh_client kafkajs kafkajs/package-lock.json || return 0
	cp integration/matrix/kafkajs/package.json integration/matrix/kafkajs/package-lock.json "$client"
	(cd "$client" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
	have_client
}

make_sarama() {
	fresh_client sarama sarama/main.go sarama/go.mod sarama/go.sum || return 0
	(cd integration/matrix/sarama && CGO_ENABLED=0 go build -buildvcs=false -o "$client/sarama" . >&2)
	have_client
}

for part in "$@"; do
	case $part in
	protoc | kafka | minio | python | kafkajs | sarama) "make_$part" ;;
	esac
done
