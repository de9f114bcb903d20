################################################################################
#
# edgeweir
#
################################################################################

EDGEWEIR_VERSION = 0.1.0
EDGEWEIR_SITE = $(realpath $(BR2_EXTERNAL_EDGEWEIR_PATH)/../../..)
EDGEWEIR_SITE_METHOD = local
EDGEWEIR_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude target
EDGEWEIR_LICENSE = MIT or Apache-2.0
EDGEWEIR_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
EDGEWEIR_CARGO_INSTALL_OPTS = --bin edgeweir

# A local site is not vendored as a download is, and cargo builds offline.
define EDGEWEIR_VENDOR
	cd $(@D) && mkdir -p .cargo && \
		$(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) cargo vendor --locked VENDOR >.cargo/config.toml
endef
EDGEWEIR_PRE_CONFIGURE_HOOKS += EDGEWEIR_VENDOR

define EDGEWEIR_INSTALL_FIRST_CONFIG
	$(INSTALL) -D -m 0644 $(@D)/board/base/first-boot.toml \
		$(TARGET_DIR)/etc/edgeweir/first-boot.toml
endef
EDGEWEIR_POST_INSTALL_TARGET_HOOKS += EDGEWEIR_INSTALL_FIRST_CONFIG

define EDGEWEIR_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/board/delivery/init/S60edgeweir \
		$(TARGET_DIR)/etc/init.d/S60edgeweir
endef

define EDGEWEIR_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/board/delivery/init/edgeweir.service \
		$(TARGET_DIR)/usr/lib/systemd/system/edgeweir.service
endef

$(eval $(cargo-package))
