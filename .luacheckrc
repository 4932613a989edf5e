-- The globals of this house, by hand: base functions and the pure libraries. No io, os, debug, package, dofile,
-- loadfile: they do not exist in a running host, so using one is a bug.
std = {
  read_globals = {
    "_G", "_VERSION", "assert", "collectgarbage", "error", "getmetatable", "ipairs", "load", "next", "pairs", "pcall",
    "print", "rawequal", "rawget", "rawlen", "rawset", "require", "select", "setmetatable", "tonumber", "tostring",
    "type", "warn", "xpcall", "string", "table", "math", "utf8", "coroutine",
  },
}
-- 110 is what we write, 120 is where reading stops.
max_line_length = 120
exclude_files = { "build" }
-- A policy declares itself with the one word that its environment adds.
files["scripts"] = { read_globals = { "policy" } }
files["scripts/**/*_test.lua"] = {
  read_globals = { "test", "everywhere", "explore", "equal", "has", "raises", "commit" },
}
-- Annotations of what a policy's file has by itself.
files["stdlib/*/globals.lua"] = { globals = { "policy", "test", "everywhere", "explore", "commit" }, ignore = { "212" } }
-- A peer runs in Lua's own interpreter.
files["tests/bench/peer_json.lua"] = { std = "lua54" }
