/* Git's frames, advertisements and lists of references. The first line of an input says what the rest is:
 * bytes as they come from a server, or with "-lines" one payload per line, which is framed here so that
 * mutations reach what is inside of frames. Oracles: a second reader of frames that is slow and plain; what
 * was understood is written again and has to be understood as the same. */
#include "fuzz.h"
#include <lauxlib.h>
#include <lua.h>
#include "host.h"

static const char script[] =
    "local require = ...\n"
    "local pktline, refs = require 'sources.git.pktline', require 'sources.git.refs'\n"
    "local CODES = { protocol = true, failed = true, unsupported = true, too_large = true }\n"
    "local function slow(bytes)\n"
    "  local frames = {}\n"
    "  while #bytes >= 4 do\n"
    "    local head = bytes:sub(1, 4)\n"
    "    if head:find '[^0-9a-fA-F]' then return frames, 'broken' end\n"
    "    local n = tonumber(head, 16)\n"
    "    if n == 3 or n > 65520 then return frames, 'broken' end\n"
    "    if n < 3 then\n"
    "      frames[#frames + 1] = ({ [0] = 'flush', 'delim', 'end' })[n]\n"
    "      bytes = bytes:sub(5)\n"
    "    else\n"
    "      if #bytes < n then return frames, #bytes end\n"
    "      frames[#frames + 1] = 'data' .. bytes:sub(5, n)\n"
    "      bytes = bytes:sub(n + 1)\n"
    "    end\n"
    "  end\n"
    "  return frames, #bytes\n"
    "end\n"
    "local function check_reader(bytes)\n"
    "  local want, rest = slow(bytes)\n"
    "  for _, size in ipairs { 1, 3, 64, math.max(1, #bytes) } do\n"
    "    local reader, seen, broken = pktline.reader(), 0, false\n"
    "    for at = 1, #bytes, size do\n"
    "      for kind, payload in reader:feed(bytes:sub(at, at + size - 1)) do\n"
    "        if kind == 'broken' then broken = true break end\n"
    "        seen = seen + 1\n"
    "        assert(want[seen] == kind .. (payload or ''), 'frame ' .. seen)\n"
    "      end\n"
    "      if broken then break end\n"
    "    end\n"
    "    assert(seen == #want and broken == (rest == 'broken'), 'number of frames')\n"
    "    assert(broken or reader:pending() == rest, 'rest')\n"
    "  end\n"
    "end\n"
    "local function check_snapshot(s)\n"
    "  local heads, tags, length = 0, 0, s.format == 'sha256' and 64 or 40\n"
    "  local lines = {}\n"
    "  if s.head_commit then\n"
    "    lines[1] = pktline.line(s.head_commit .. ' HEAD' .. (s.head and ' symref-target:' .. s.head or "
    "''))\n"
    "  elseif s.head then\n"
    "    lines[1] = pktline.line('unborn HEAD symref-target:' .. s.head)\n"
    "  end\n"
    "  for name, ref in pairs(s.refs) do\n"
    "    assert(refs.valid_name(name) and not name:find '[%c ]', name)\n"
    "    assert(#ref.oid == length and #ref.commit == length, name)\n"
    "    assert(refs.id_format(ref.oid) == s.format and refs.id_format(ref.commit) == s.format, name)\n"
    "    assert(ref.annotated or ref.oid == ref.commit, name)\n"
    "    if name:find '^refs/heads/' then heads = heads + 1 else tags = tags + 1 end\n"
    "    lines[#lines + 1] = pktline.line(ref.oid .. ' ' .. name\n"
    "      .. (ref.annotated and ' peeled:' .. ref.commit or '') .. '\\n')\n"
    "  end\n"
    "  assert(heads == s.heads and tags == s.tags, 'counts')\n"
    "  local again = assert(refs.parse_ls_refs(table.concat(lines) .. '0000', s.format))\n"
    "  assert(again.heads == heads and again.tags == tags and again.head == s.head, 'again')\n"
    "  for name, ref in pairs(s.refs) do\n"
    "    local other = again.refs[name]\n"
    "    assert(other and other.oid == ref.oid and other.commit == ref.commit, name)\n"
    "  end\n"
    "end\n"
    "local function refused(err)\n"
    "  assert(CODES[err.code], tostring(err.code))\n"
    "  assert(not tostring(err):find '%c', 'a control character in an error')\n"
    "end\n"
    "local checks = { reader = check_reader }\n"
    "function checks.refs(bytes)\n"
    "  for _, format in ipairs { 'sha1', 'sha256' } do\n"
    "    local s, err = refs.parse_ls_refs(bytes, format)\n"
    "    if s then\n"
    "      assert(bytes:sub(-4) == '0000', 'a list without its end')\n"
    "      check_snapshot(s)\n"
    "    else\n"
    "      refused(err)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "function checks.caps(bytes)\n"
    "  local caps, err = refs.parse_advertisement(bytes)\n"
    "  if not caps then return refused(err) end\n"
    "  assert(bytes:find('0000', 1, true), 'an advertisement without its end')\n"
    "  if caps.snapshot then return check_snapshot(caps.snapshot) end\n"
    "  assert(caps.version == 2)\n"
    "  checks.reader(refs.ls_refs_request(caps, 'fuzz/1'))\n"
    "end\n"
    "local function framed(text)\n"
    "  local out = {}\n"
    "  for line in (text .. '\\n'):gmatch '([^\\n]*)\\n' do\n"
    "    out[#out + 1] = line:find '^000[012]$' and line or pktline.line(line)\n"
    "  end\n"
    "  return table.concat(out)\n"
    "end\n"
    "return function(kind, text)\n"
    "  local base = kind:match '^(.*)%-lines$'\n"
    "  if base then kind, text = base, framed(text) end\n"
    "  if checks[kind] then checks[kind](text) end\n"
    "end\n";

static struct host host;

static void open_host(void)
{
    static char name[] = "fuzz";
    static char *argv[] = {name, NULL};
    const char *message = "";

    if (!host_open(&host, 1, argv, &message)) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    /* What host_open left is the prelude's start of main; it holds the stdlib's require. */
    HOLDS(lua_getupvalue(host.L, -1, 1) && lua_isfunction(host.L, -1));
    HOLDS(luaL_loadbufferx(host.L, script, sizeof script - 1, "=fuzz", "t") == LUA_OK);
    lua_insert(host.L, -2);
    lua_call(host.L, 1, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece kind = fuzz_line(&in);

    if (!host.L)
        open_host();
    lua_pushvalue(host.L, -1);
    lua_pushlstring(host.L, kind.data, kind.len);
    lua_pushlstring(host.L, in.at, (size_t)(in.end - in.at));
    if (lua_pcall(host.L, 2, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", luaL_tolstring(host.L, -1, NULL));
        abort();
    }
    return 0;
}
