#!/usr/bin/env bash
# Builds the image from a clean Debian machine, as root:
#
#   build-image.sh FOLDER
#
# FOLDER gets what a test needs to use it: `env.sh`, to be sourced, and `bin/docker`, which runs
# podman. No registry of images is needed: the base is made of Debian's packages. Build arguments
# (VERSION, REVISION, …) may follow.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
image=dask-claim:${IMAGE_TAG:-0.1.0}
base=localhost/dask-claim-base:bookworm

needed=()
for pair in podman:podman buildah:buildah runc:runc iptables:iptables debootstrap:debootstrap; do
    command -v "${pair%%:*}" >/dev/null || needed+=("${pair##*:}")
done
if [ ${#needed[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${needed[@]}" >/dev/null
fi

# The machine's own limits may be lower than podman's defaults, and its cgroups of the old kind.
cat >"$folder/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:2048"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
mkdir -p "$folder/bin"
printf '#!/bin/sh\nexec podman "$@"\n' >"$folder/bin/docker"
chmod +x "$folder/bin/docker"
cat >"$folder/env.sh" <<ENV
export CONTAINERS_CONF='$folder/containers.conf'
export PATH='$folder/bin':"\$PATH"
ENV
# shellcheck disable=SC1091
. "$folder/env.sh"

if ! podman image exists "$base"; then
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        sed -nE 's/^(URIs:|deb) *(\[[^]]*\] *)?(https?:[^ ]+\/debian)\/?( .*)?$/\3/p' | sed 1q || true)
    rootfs=$(mktemp -d)
    trap 'rm -rf "$rootfs"' EXIT
    # shellcheck disable=SC2086
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$rootfs" $mirror >"$folder/debootstrap.log"
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
    tar -C "$rootfs" -c . | podman import --quiet - "$base" >/dev/null
fi

arguments=()
for pair in "$@"; do
    arguments+=(--build-arg "$pair")
done
# The machine's certificates, for where its way to the package index has one of its own.
podman build --quiet --layers --network host --build-arg "BASE_IMAGE=$base" "${arguments[@]}" \
    --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro \
    --tag "$image" "$root" >"$folder/build.log" 2>&1 || {
    cat "$folder/build.log" >&2
    exit 1
}
podman image inspect --format '{{.Size}}' "$image" >"$folder/size"
echo "$image: $(($(cat "$folder/size") / 1000000)) MB"
