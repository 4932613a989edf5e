/* libuv handles with memory of their own. */
#include "uv_handle.h"

#include <stdlib.h>
#include <uv.h>

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

void uv_handle_drop(void *handle)
{
    uv_handle_t *h = handle;

    if (!h)
        return;
    h->data = NULL;
    uv_close(h, on_closed);
}
