#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
#
# ifcfg_plugin.sh SUITE OUT.tar.gz: NetworkManager of that Debian suite with its ifcfg-rh plugin, which Debian leaves out.
# Two files take the place of the package's: the daemon and the plugin (a stock daemon does not export what the plugin
# needs); nmcli, libnm, units and D-Bus policies stay the package's. Built in a root of that suite, without optimisation, for
# that takes half as long. Needs mmdebstrap, root.
set -euo pipefail
suite=$1; out=$(realpath "$2"); work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # apt's fields, not the shell's
mirror=${MIRROR:-$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian //p' | grep -v security | head -n1)}
deps=gcc,libc6-dev,meson,ninja-build,pkgconf,gettext,xsltproc,perl,python3,bzip2,xz-utils,dpkg-dev
deps+=,debian-archive-keyring,libglib2.0-dev,libglib2.0-dev-bin,libudev-dev,libsystemd-dev,libndp-dev,uuid-dev,libdbus-1-dev
[ "$suite" != bookworm ] || deps=${deps/pkgconf/pkg-config}
key=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
time mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Apt::Install-Recommends false' --include="$deps" \
    --aptopt='Acquire::Check-Valid-Until false' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$work/root" "deb [$key] $mirror $suite main"
echo "deb-src [$key] $mirror $suite main" > "$work/root/etc/apt/sources.list.d/source.list"
cat > "$work/root/build.sh" <<'B'
set -eu
cd /root
apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q source --download-only network-manager
tar xf network-manager_*.orig.tar.*
cd NetworkManager-*/
version=$(sed -n "s/^  version: '\(.*\)',/\1/p" meson.build | head -n1)
new=; grep -q "'runtime_dir'" meson_options.txt && new="-Druntime_dir=/run" || new="-Ddhcpcanon=no"
# libdir: where cloud-init looks for the plugin is usr/lib*/NetworkManager/*/, not a multiarch directory.
meson setup b --prefix=/usr --libdir=lib --libexecdir=lib/NetworkManager --sysconfdir=/etc --localstatedir=/var -Dbuildtype=plain \
    -Difcfg_rh=true -Difupdown=false -Dconfig_plugins_default=ifcfg-rh,keyfile -Dcrypto=null -Dpolkit=false -Dconfig_auth_polkit_default=root-only \
    -Dselinux=false -Dlibaudit=no -Dsession_tracking=systemd -Dsession_tracking_consolekit=false -Dsuspend_resume=systemd \
    -Dwext=false -Dwifi=false -Dppp=false -Dmodem_manager=false -Dconcheck=false -Dteamdctl=false -Dovs=false -Dnmcli=false \
    -Dnmtui=false -Dnm_cloud_setup=false -Dbluez5_dun=false -Debpf=false -Dintrospection=false -Dvapi=false -Ddocs=false \
    -Dtests=no -Dfirewalld_zone=false -Dlibpsl=false -Dqt=false -Dreadline=none -Dld_gc=true -Dmore_asserts=no -Dmore_logging=false \
    -Ddhclient=no -Ddhcpcd=no -Dresolvconf=no -Dnetconfig=no -Diptables=/usr/sbin/iptables -Dnft=/usr/sbin/nft \
    -Dsystemdsystemunitdir=no -Dudev_dir=no $new
ninja -C b src/core/NetworkManager src/core/settings/plugins/ifcfg-rh/libnm-settings-plugin-ifcfg-rh.so
install -Ds b/src/core/NetworkManager /out/usr/sbin/NetworkManager
install -Ds b/src/core/settings/plugins/ifcfg-rh/libnm-settings-plugin-ifcfg-rh.so /out/usr/lib/NetworkManager/$version/libnm-settings-plugin-ifcfg-rh.so
install -Dm 644 src/core/settings/plugins/ifcfg-rh/nm-ifcfg-rh.conf /out/usr/share/dbus-1/system.d/nm-ifcfg-rh.conf
B
# shellcheck disable=SC2016 # the inner shell's
unshare --mount sh -c 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && cp /etc/resolv.conf "$1/etc/resolv.conf" && exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh /build.sh' sh "$work/root"
tar -C "$work/root/out" -czf "$out" .
tar tvf "$out"
