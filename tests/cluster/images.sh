# Images without an engine: archives in the form of `docker save`. Sourced.
# shellcheck shell=bash disable=SC2154 # from lib.sh

# `make_image REFERENCE FILE CONFIGURATION`: one layer with one file; the configuration is JSON.
make_image() {
    local reference=$1 file=$2 configuration=$3 dir layer machine
    case $(uname -m) in aarch64) machine=arm64 ;; *) machine=amd64 ;; esac
    dir=$(mktemp -d "$state/images/XXXXXX")
    tar -C "$(dirname "$file")" --owner=0 --group=0 --numeric-owner --mode=755 -cf "$dir/layer.tar" "$(basename "$file")"
    layer=$(sha256sum <"$dir/layer.tar" | cut -d ' ' -f 1)
    printf '{"architecture": "%s", "os": "linux", "config": %s, "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
        "$machine" "$configuration" "$layer" >"$dir/config.json"
    printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]' "$reference" >"$dir/manifest.json"
    tar -C "$dir" -cf "$dir.tar" manifest.json config.json layer.tar
    rm -r "$dir"
    mv "$dir.tar" "$state/images/$(basename "${reference%%:*}")-${reference##*:}.tar"
}

# User and entry point from Dockerfile.scratch.
agent_configuration() {
    local file=$project/Dockerfile.scratch user entrypoint
    user=$(sed -n 's/^USER //p' "$file")
    entrypoint=$(sed -n 's/^ENTRYPOINT //p' "$file")
    if [ -z "$user" ] || [ -z "$entrypoint" ]; then die "no USER or no ENTRYPOINT in $file"; fi
    echo "{\"User\": \"$user\", \"Entrypoint\": $entrypoint}"
}

# The agent's image with the manifests' name, and with the tag `next` as the target of an update.
make_images() {
    local image binary
    mkdir -p "$state/images"
    image=$(sed -n 's/^ *image: \(wylis:.*\)$/\1/p' "$project/manifests/50-daemonset.yaml")
    binary=${WYLIS_BINARY:-$(cd "$project" && realpath "$(scripts/build.sh --path)")}
    [ -x "$binary" ] || die "no $binary (run make build)"
    make_image wylis.test/pause:1 "$bin/pause" '{"Entrypoint": ["/pause"]}'
    make_image "docker.io/library/$image" "$binary" "$(agent_configuration)"
    make_image docker.io/library/wylis:next "$binary" "$(agent_configuration)"
}
