include $(sort $(wildcard $(BR2_EXTERNAL_EDGEWEIR_PATH)/package/*/*.mk))
