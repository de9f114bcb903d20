SUMMARY = "RTSP gateway between players and cameras or recorders"
DESCRIPTION = "A lean RTSP gateway for ARM NVRs and edge boxes."
HOMEPAGE = "file://${EDGEWEIR_SOURCE}/README.md"
SECTION = "multimedia"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=775fff4a2620db37f1550a337b867fd3 \
                    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac"

# The checkout that this layer is part of. A rustc of 1.95 or newer is needed (meta-rust has one
# where the release's own is older).
EDGEWEIR_SOURCE ?= "${@os.path.realpath(os.path.join(d.getVar('THISDIR'), '../../../../../..'))}"

inherit cargo externalsrc systemd update-rc.d

EXTERNALSRC = "${EDGEWEIR_SOURCE}"
EXTERNALSRC_BUILD = "${WORKDIR}/build"
# Crates come from the registry, by Cargo.lock, with their checksums: the class's own --frozen would
# keep them away.
CARGO_BUILD_FLAGS:remove = "--frozen"
CARGO_BUILD_FLAGS:append = " --locked --bin edgeweir"
CARGO_DISABLE_BITBAKE_VENDORING = "1"
do_compile[network] = "1"

SYSTEMD_SERVICE:${PN} = "edgeweir.service"
INITSCRIPT_NAME = "edgeweir"
INITSCRIPT_PARAMS = "defaults 60"

do_install:append() {
    install -D -m 0644 ${S}/board/delivery/init/edgeweir.service ${D}${systemd_system_unitdir}/edgeweir.service
    install -D -m 0755 ${S}/board/delivery/init/S60edgeweir ${D}${sysconfdir}/init.d/edgeweir
    install -D -m 0644 ${S}/board/base/first-boot.toml ${D}${sysconfdir}/edgeweir/first-boot.toml
}

FILES:${PN} += "${systemd_system_unitdir}"
