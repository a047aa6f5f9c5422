#!/bin/bash
# Usage: deb.sh VERSION OUTDIR: makes OUTDIR/sfc_VERSION_ARCH.deb of bin/sfcd and
# bin/sfcctl. Needs dpkg-deb.
set -euo pipefail
version=${1#v} out=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
arch=$(dpkg --print-architecture)
# Debian's versions begin with a digit, and have no dash without a revision.
case $version in [0-9]*) ;; *) version="0.0~$version" ;; esac
version=${version//-/+}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

install -d "$tree"/DEBIAN "$tree"/usr/share/doc/sfc
install -D -m 755 "$root"/bin/sfcd "$tree"/usr/bin/sfcd
install -D -m 755 "$root"/bin/sfcctl "$tree"/usr/bin/sfcctl
install -D -m 644 "$here"/systemd/sfcd.service "$tree"/usr/lib/systemd/system/sfcd.service
install -D -m 644 "$here"/sfcd.yaml "$tree"/etc/sfc/sfcd.yaml
install -D -m 644 "$root"/ctrl/observe/dashboard.json "$tree"/usr/share/sfc/grafana-dashboard.json
install -d "$tree"/usr/share/sfc/functions
find "$root"/nf/catalog -name '*.wasm' -exec install -m 644 -t "$tree"/usr/share/sfc/functions {} +
install -m 644 "$root"/LICENSE "$tree"/usr/share/doc/sfc/copyright
install -d "$tree"/usr/share/bash-completion/completions "$tree"/usr/share/zsh/vendor-completions "$tree"/usr/share/fish/vendor_completions.d
for c in sfcctl sfcd; do
	"$root"/bin/$c completion bash >"$tree"/usr/share/bash-completion/completions/$c
	"$root"/bin/$c completion zsh >"$tree"/usr/share/zsh/vendor-completions/_$c
	"$root"/bin/$c completion fish >"$tree"/usr/share/fish/vendor_completions.d/$c.fish
	"$root"/bin/$c man "$tree"/usr/share/man
done
find "$tree"/usr/share/man -name '*.[18]' -exec gzip -9n {} +

sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" "$here"/debian/control >"$tree"/DEBIAN/control
for f in postinst prerm postrm; do install -m 755 "$here"/debian/$f "$tree"/DEBIAN/$f; done
echo /etc/sfc/sfcd.yaml >"$tree"/DEBIAN/conffiles
mkdir -p "$out"
dpkg-deb --root-owner-group --build "$tree" "$out/sfc_${version}_$arch.deb"
