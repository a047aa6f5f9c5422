#!/bin/bash
# Usage: deb.sh VERSION OUTDIR: makes OUTDIR/sfc_VERSION_ARCH.deb of bin/sfcd and
# bin/sfcctl. Needs dpkg-deb and strip.
set -euo pipefail
version=${1#v} out=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
arch=$(dpkg --print-architecture)
# Debian's versions begin with a digit, have no dash without a revision, and
# grow: where there is no tag, by the time of the commit.
case $version in
[0-9]*.*) ;;
*) version="0.0~$(git -C "$root" log -1 --format=%cd --date=format:%Y%m%d%H%M 2>/dev/null || date +%Y%m%d%H%M).${version:-unknown}" ;;
esac
version=${version//-/+}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
umask 022

make -C "$root" --no-print-directory install DESTDIR="$tree" PREFIX=/usr SYSCONFDIR=/etc ZSHDIR=/usr/share/zsh/vendor-completions >/dev/null
find "$tree"/usr/share/man -name '*.[18]' -exec gzip -9n {} +
install -D -m 644 "$here"/debian/copyright "$tree"/usr/share/doc/sfc/copyright
strip "$tree"/usr/bin/sfcd "$tree"/usr/bin/sfcctl
gzip -9nc "$root"/CHANGELOG.md >"$tree"/usr/share/doc/sfc/CHANGELOG.md.gz
printf 'sfc (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" \
	"$(sed -n 's/^Maintainer: //p' "$here"/debian/control)" "$(date -R)" | gzip -9n >"$tree"/usr/share/doc/sfc/changelog.gz
install -D -m 644 -t "$tree"/usr/share/doc/sfc/examples "$root"/testbed/examples/*.yaml
install -D -m 755 -t "$tree"/usr/share/doc/sfc/examples "$root"/testbed/examples/*.sh

install -d "$tree"/DEBIAN
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" "$here"/debian/control >"$tree"/DEBIAN/control
for f in postinst prerm postrm; do install -m 755 "$here"/debian/$f "$tree"/DEBIAN/$f; done
echo /etc/sfc/sfcd.yaml >"$tree"/DEBIAN/conffiles
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree"/DEBIAN/md5sums
mkdir -p "$out"
# Fast rather than as small as can be.
dpkg-deb -Zxz -z1 --root-owner-group --build "$tree" "$out/sfc_${version}_$arch.deb"
