/* What libcurl's results mean, in the host's own list of codes; and which addresses are private.
 *
 * Called with a finished transfer, before it is dropped. Assumptions about libcurl's texts are for 7.88; when
 * one changes, the code becomes less exact, never wrong. */
#include "curl_loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static enum err_code code_of_connect(int errnum)
{
    switch (errnum) {
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
        return ERR_UNREACHABLE;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ECONNRESET:
        return ERR_RESET;
    case EMFILE:
    case ENFILE:
        return ERR_FULL;
    case ENOMEM:
        return ERR_MEMORY;
    case EAFNOSUPPORT:
        return ERR_UNREACHABLE;
    default:
        return ERR_REFUSED; /* also a missing UNIX socket */
    }
}

static enum err_code code_of_result(const struct curl_transfer *t, CURLcode result)
{
    long os_errno = 0;

    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return ERR_DNS;
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
        return code_of_connect(t->open_errno ? t->open_errno : (int)os_errno);
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return ERR_TLS;
    case CURLE_RECV_ERROR:
        return strstr(t->error, "chunk") ? ERR_PROTOCOL : ERR_RESET;
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2_STREAM:
        return ERR_RESET;
    case CURLE_UNSUPPORTED_PROTOCOL:
        return strstr(t->error, "HTTP/0.9") ? ERR_PROTOCOL : ERR_UNSUPPORTED;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_HTTP2:
    case CURLE_HTTP3:
        return ERR_PROTOCOL;
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_TOO_LARGE;
    case CURLE_OUT_OF_MEMORY:
        return strstr(t->error, "big header") ? ERR_TOO_LARGE : ERR_MEMORY;
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:
        return ERR_INVALID;
    case CURLE_NO_CONNECTION_AVAILABLE:
    case CURLE_AGAIN:
        return ERR_BUSY;
    case CURLE_NOT_BUILT_IN:
    case CURLE_UNKNOWN_OPTION:
        return ERR_UNSUPPORTED;
    case CURLE_ABORTED_BY_CALLBACK:
        return t->refused_address ? ERR_DENIED : ERR_CLOSED;
    default:
        return ERR_IO;
    }
}

void curl_transfer_error(const struct curl_transfer *t, CURLcode result, struct err *e)
{
    const char *text;

    if (result == CURLE_OK)
        return;
    if (!t->easy) {
        err_set(e, ERR_CLOSED, "the host is stopping");
        return;
    }
    text = t->error[0] ? t->error : curl_easy_strerror(result);
    if (t->refused_address)
        text = "a public server sent us to a private address";
    else if (t->open_errno && result == CURLE_COULDNT_CONNECT)
        text = strerror(t->open_errno);
    err_set(e, code_of_result(t, result), "%s", text);
}

/* ---- addresses ---- */

static bool ipv4_private(const unsigned char *a)
{
    switch (a[0]) {
    case 0:
    case 10:
    case 127:
        return true;
    case 100:
        return (a[1] & 0xc0) == 64; /* shared by carriers */
    case 169:
        return a[1] == 254;
    case 172:
        return (a[1] & 0xf0) == 16;
    case 192:
        return a[1] == 168 || (a[1] == 0 && a[2] == 0);
    case 198:
        return (a[1] & 0xfe) == 18;
    default:
        return a[0] >= 224;
    }
}

static bool ipv6_private(const unsigned char *a)
{
    static const unsigned char zeros[12];
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};

    if (memcmp(a, zeros, 12) == 0) /* unspecified, loopback, and the old form of IPv4 inside */
        return a[12] == 0 || ipv4_private(a + 12);
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return ipv4_private(a + 12);
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return ipv4_private(a + 2);
    if ((a[0] & 0xfe) == 0xfc || a[0] == 0xff)
        return true;
    return a[0] == 0xfe && (a[1] & 0x80); /* link-local, site-local */
}

bool curl_address_private(const char *address)
{
    unsigned char bytes[16];
    char plain[INET6_ADDRSTRLEN];
    size_t len = strcspn(address, "%"); /* without the zone */

    if (len >= sizeof plain)
        return true;
    memcpy(plain, address, len);
    plain[len] = '\0';
    if (inet_pton(AF_INET, plain, bytes) == 1)
        return ipv4_private(bytes);
    if (inet_pton(AF_INET6, plain, bytes) == 1)
        return ipv6_private(bytes);
    return true;
}
