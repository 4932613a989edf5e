-- Text from outside: nothing foul comes through, nothing honest is lost.
local check = require "check"
local text = require "base.text"
local test, eq, ok = check.test, check.eq, check.ok

test("honest text passes unchanged", function()
  for _, line in ipairs { "", "Fix the thing", "Schöne Grüße", "日本語",
    "emoji 👩‍🚀 with joiner", "a\u{00a0}b", "tab-less" } do
    ok(text.printable(line))
    eq(text.clean(line), line)
  end
end)

test("control bytes, broken UTF-8 and direction marks are foul", function()
  for _, line in ipairs { "a\0b", "a\nb", "a\rb", "a\27[31mb", "a\127b", "a\255b", "a\xc3", "\xed\xa0\x80",
    "a\u{85}b", "a\u{e0041}b", "a\u{206a}b", "a\u{fffa}b",
    "a\u{202e}b", "a\u{2066}b", "a\u{200f}b", "a\u{2028}b", "\u{feff}a", "\xf4\x90\x80\x80" } do
    eq(text.printable(line), false, ("%q"):format(line))
    ok(text.printable(text.clean(line)))
    check.has(text.clean(line), "a" == line:sub(1, 1) and "a" or "")
  end
  eq(text.clean "\27]0;owned\7 red \27[31m!", "]0;owned red [31m!")
  eq(text.clean "one\r\ntwo\n", "one two")
end)

test("JSON shows what would act on a terminal or stay unseen, and means the same", function()
  local json = require "json"
  local value = { "plain", "Schöne Grüße 日本語", "a\u{85}b", "\u{202e}txt.exe", "\u{e0041}", "\u{feff}", "\127",
    "👩‍🚀", "\u{2028}" }
  local encoded = ok(json.encode(value))
  local shown = text.visible_json(encoded)
  eq(ok(json.decode(shown)), value)
  for _, char in ipairs { "\u{85}", "\u{202e}", "\u{e0041}", "\u{feff}", "\127", "\u{2028}" } do
    eq(shown:find(char, 1, true), nil)
  end
  check.has(shown, "Schöne Grüße 日本語")
  check.has(shown, "\\udb40\\udc41")
end)

test("a long text is cut between characters", function()
  eq(text.clean(("x"):rep(300)), ("x"):rep(197) .. "...")
  eq(text.clean(("ä"):rep(10), 10), "äää...")
  ok(utf8.len(text.clean(("日"):rep(500), 99)))
  eq(#text.clean(("y"):rep(1000000), 50), 50)
end)

test("commits and digests have one short form each", function()
  eq(text.short(("a1b2"):rep(10)), "a1b2a1b")
  eq(text.short("sha256:" .. ("a1b2"):rep(16)), "sha256:a1b2a1b2a1b2")
  eq(text.short(nil), "?")
end)
