#!/bin/sh
# Unpacks packages of a later Debian into a directory of their own, from the mirror that this system uses and checked by
# Debian's signatures; the system's own packages and lists stay as they are.
#
#   debian-tree.sh SUITE DIR PACKAGE...
#
# DIR/bin then has each of their programs, which runs in that tree with what matters of this system (/dev, /etc, /proc, /run,
# /sys, /tmp) where it is. Nothing is done when DIR is there already.
set -eu
suite=$1 dir=$2
shift 2
[ ! -d "$dir" ] || exit 0

new=$dir.new
rm -rf "$new"
mkdir -p "$new/bin" "$new/apt/lists/partial" "$new/apt/archives/partial" "$new/root/dev" "$new/root/etc" "$new/root/proc" "$new/root/run" \
  "$new/root/sys" "$new/root/tmp" "$new/debs"
trap 'rm -rf "$new"' EXIT

mirror=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)' |
  awk -F'|' -v codename="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$1 == "Debian" && $2 == codename { print $3; exit }')
[ -n "$mirror" ] || { echo "debian-tree.sh: this system is no Debian" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$new/apt/sources.list"
: > "$new/apt/status"
apt() {
  apt-get -q -o Dir::Etc::SourceList="$new/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State="$new/apt" -o Dir::State::Lists="$new/apt/lists" -o Dir::State::Status="$new/apt/status" -o Dir::Cache="$new/apt" \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$new/debs" && apt download "$@")
for deb in "$new"/debs/*.deb; do dpkg-deb --extract "$deb" "$new/root"; done
[ -e "$new/root/var/tmp" ] || { mkdir -p "$new/root/var" && ln -s ../tmp "$new/root/var/tmp"; }
# Packages that still come without merged directories.
for name in bin lib lib64 sbin; do [ -e "$new/root/$name" ] || ln -s "usr/$name" "$new/root/$name"; done

cat > "$new/run" << 'RUN'
#!/bin/sh
exec unshare --mount --propagation private -- sh -c '
  for part in dev etc proc run sys tmp; do mount --rbind "/$part" "$0/$part"; done
  exec chroot "$0" "$@"
' "$(dirname "$(readlink -f "$0")")/root" "$(basename "$0")" "$@"
RUN
chmod 755 "$new/run"
for program in "$new"/root/usr/bin/*; do ln -s ../run "$new/bin/$(basename "$program")"; done
rm -rf "$new/apt" "$new/debs"
mv "$new" "$dir"
