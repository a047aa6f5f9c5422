// SPDX-License-Identifier: Apache-2.0
//
// sfc_log.h: the import sfc.log. A module that includes it and calls sfc_log
// must list "log" among its manifest's capabilities. The engine limits the
// rate and escapes the text; never log per packet.
#ifndef SFC_LOG_H
#define SFC_LOG_H

#include "sfc.h"

// Levels of a message.
enum { SFC_LOG_DEBUG = 0, SFC_LOG_INFO = 1, SFC_LOG_WARN = 2, SFC_LOG_ERROR = 3 };

#ifdef SFC_NATIVE
static inline void sfc_log(int32_t level, const char *text, uint32_t len) {
	(void)level, (void)text, (void)len;
}
#else
__attribute__((import_module("sfc"), import_name("log")))
void sfc_log(int32_t level, const char *text, uint32_t len);
#endif

#endif
