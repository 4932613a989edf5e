/* libuv handles with memory of their own: they live until libuv has closed them, which is later than their
 * owner. Their `data` points back at the owner, and is NULL once the owner has gone. Knows no Lua.
 */
#ifndef MOONTIDE_UV_HANDLE_H
#define MOONTIDE_UV_HANDLE_H

/* Closes a malloc'ed handle of any type and frees it when libuv is done; its `data` is NULL from now on.
 * Accepts NULL. */
void uv_handle_drop(void *handle);

#endif
