#!/usr/bin/env bash
# Builds the image by the Dockerfile as it stands, and runs a command in it. No engine is needed, but root. Debian 13, which has
# the same version of Python, stands in for the official image of Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "SKIPPED: the image was not built, because $1" >&2; exit 0; }
[ "$(id -u)" = 0 ] || skip "this is not root"
for program in buildah debootstrap; do command -v $program >/dev/null || skip "$program is not installed here"; done

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$work/store" --runroot "$work/run" "$@"; }
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }; }

quietly debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip trixie "$work/base"
# As the official image has it: pip may install, and python is on PATH.
rm "$work"/base/usr/lib/python3.*/EXTERNALLY-MANAGED
ln -s python3 "$work/base/usr/bin/python"
base=$(buildah from scratch)
quietly buildah add "$base" "$work/base" /
# This machine's certificates are known while it is built.
buildah config --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$base"
name=$(sed -n 's/^FROM \(python:[^ ]*\)$/\1/p' Dockerfile)
quietly buildah commit --rm "$base" "docker.io/library/$name"

quietly buildah build --pull-never --format docker --volume /etc/ssl/certs:/etc/ssl/certs:ro --tag crm-service .
buildah inspect --type image crm-service >"$work/image.json"
container=$(buildah from --pull-never localhost/crm-service)
buildah run "$container" -- crm --version
said=$(buildah run "$container" -- sh -c 'id -u; id -g; touch /opt/crm/x 2>/dev/null || echo sealed')
[ "$said" = $'10001\n10001\nsealed' ] || { echo "it runs as $said" >&2; exit 1; }
grep -q '"Healthcheck"' "$work/image.json" || { echo "its health check is lost" >&2; exit 1; }
echo "the image is built"
