/* libcurl without its type-checking macros (Cython passes exact types), and the
 * one union access that Cython cannot spell. */
#ifndef PARPULL_CURL_COMPAT_H
#define PARPULL_CURL_COMPAT_H
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#if LIBCURL_VERSION_NUM < 0x075500
#error "parpull needs libcurl 7.85 or newer"
#endif
static inline CURLcode message_result(CURLMsg *message) { return message->data.result; }
#endif
