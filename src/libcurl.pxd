"""libcurl as the reactor uses it: declarations only (libcurl >= 7.85)."""
from libc.stdint cimport int64_t

cdef extern from "curl_compat.h" nogil:
    ctypedef struct CURL:
        pass
    ctypedef struct CURLM:
        pass
    ctypedef int CURLcode
    ctypedef int CURLMcode
    ctypedef int CURLoption
    ctypedef int CURLINFO
    ctypedef int64_t curl_off_t
    ctypedef int curl_socket_t

    struct curl_slist:
        pass
    struct CURLMsg:
        int msg
        CURL* easy_handle
    CURLcode message_result(CURLMsg* message)

    struct curl_header:
        char* name
        char* value
        size_t amount
    struct curl_easyoption:
        const char* name
        CURLoption id
        int type
    struct curl_sockaddr:
        int family
        int socktype
        int protocol
    struct curl_version_info_data:
        unsigned int version_num
        int features

    CURLcode curl_global_init(long flags)
    char* curl_version()
    curl_version_info_data* curl_version_info(int age)
    CURL* curl_easy_init()
    void curl_easy_cleanup(CURL*)
    void curl_easy_reset(CURL*)
    CURLcode curl_easy_setopt(CURL*, CURLoption, ...)
    CURLcode curl_easy_getinfo(CURL*, CURLINFO, ...)
    CURLcode curl_easy_pause(CURL*, int)
    const char* curl_easy_strerror(CURLcode)
    int curl_easy_header(CURL*, const char* name, size_t index, unsigned int origin, int request, curl_header** out)
    curl_header* curl_easy_nextheader(CURL*, unsigned int origin, int request, curl_header* previous)
    const curl_easyoption* curl_easy_option_by_id(CURLoption)
    const curl_easyoption* curl_easy_option_by_name(const char*)
    curl_slist* curl_slist_append(curl_slist*, const char*)
    void curl_slist_free_all(curl_slist*)

    CURLM* curl_multi_init()
    CURLMcode curl_multi_cleanup(CURLM*)
    CURLMcode curl_multi_setopt(CURLM*, int, ...)
    CURLMcode curl_multi_add_handle(CURLM*, CURL*)
    CURLMcode curl_multi_remove_handle(CURLM*, CURL*)
    CURLMcode curl_multi_perform(CURLM*, int*)
    CURLMcode curl_multi_poll(CURLM*, void*, unsigned int, int, int*)
    CURLMcode curl_multi_wakeup(CURLM*)
    CURLMsg* curl_multi_info_read(CURLM*, int*)

    const long CURL_GLOBAL_ALL
    const int CURLMSG_DONE
    const unsigned int CURLH_HEADER
    const int CURLPAUSE_CONT
    const size_t CURL_WRITEFUNC_PAUSE
    const int CURLMOPT_MAX_TOTAL_CONNECTIONS, CURLMOPT_MAXCONNECTS, CURLMOPT_PIPELINING
    const CURLcode CURLE_OK, CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT, CURLE_COULDNT_RESOLVE_PROXY
    const CURLcode CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT, CURLE_WRITE_ERROR, CURLE_PARTIAL_FILE
    const CURLcode CURLE_OPERATION_TIMEDOUT, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR
    const CURLcode CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_SSL_CACERT_BADFILE
    const CURLcode CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_OUT_OF_MEMORY, CURLE_SSL_ENGINE_NOTFOUND
    const CURLcode CURLE_BAD_FUNCTION_ARGUMENT, CURLE_NOT_BUILT_IN, CURLE_UNKNOWN_OPTION, CURLE_INTERFACE_FAILED
    const CURLoption CURLOPT_URL, CURLOPT_RANGE, CURLOPT_HTTPHEADER, CURLOPT_WRITEFUNCTION, CURLOPT_WRITEDATA
    const CURLoption CURLOPT_HEADERFUNCTION, CURLOPT_HEADERDATA, CURLOPT_PRIVATE, CURLOPT_NOSIGNAL
    const CURLoption CURLOPT_FOLLOWLOCATION, CURLOPT_PROTOCOLS_STR, CURLOPT_BUFFERSIZE, CURLOPT_CONNECT_TO
    const CURLoption CURLOPT_QUICK_EXIT, CURLOPT_SUPPRESS_CONNECT_HEADERS, CURLOPT_HTTP_VERSION
    const CURLoption CURLOPT_OPENSOCKETFUNCTION, CURLOPT_OPENSOCKETDATA, CURLOPT_CLOSESOCKETFUNCTION
    const CURLoption CURLOPT_CLOSESOCKETDATA, CURLOPT_ERRORBUFFER, CURLOPT_TCP_KEEPALIVE, CURLOPT_NOPROGRESS
    const CURLoption CURLOPT_FORBID_REUSE
    const CURLINFO CURLINFO_RESPONSE_CODE, CURLINFO_REDIRECT_URL, CURLINFO_PRIVATE, CURLINFO_NUM_CONNECTS
    const CURLINFO CURLINFO_STARTTRANSFER_TIME_T, CURLINFO_PRETRANSFER_TIME_T, CURLINFO_NAMELOOKUP_TIME_T
    const CURLINFO CURLINFO_PRIMARY_IP, CURLINFO_PRIMARY_PORT, CURLINFO_HTTP_CONNECTCODE
    const CURLINFO CURLINFO_PROXYAUTH_AVAIL, CURLINFO_PROXY_ERROR
    const long CURLPX_NO_AUTH, CURLPX_USER_REJECTED
    const int CURLOT_LONG, CURLOT_VALUES, CURLOT_OFF_T, CURLOT_STRING, CURLOT_SLIST
    const int CURLVERSION_NOW
    const long CURL_HTTP_VERSION_1_1
