-- yaml: what is typed and what stays text, where things stand, what is refused, and what bombs cost.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, json, time, yaml = require "fs", require "json", require "time", require "yaml"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

test("types true, false, null and decimal integers, and nothing else", function()
  local value = ok(yaml.decode [[
yes: true
no: false
nothing: null
tilde: ~
empty:
int: 42
negative: -7
zero: 0
big: 9223372036854775807
]])
  eq(value, { yes = true, no = false, nothing = json.null, tilde = json.null, empty = json.null, int = 42,
    negative = -7, zero = 0, big = math.maxinteger })
  for _, text in ipairs {
    "1.10", "1.0", "1e3", "0x1F", "0o17", "0123", "+1", "-0", "1_000", "12:30", "2024-01-01", "9223372036854775808",
    "-9223372036854775809", "yes", "no", "on", "off", "Yes", "True", "TRUE", "NULL", "Null", ".inf", ".nan",
    "--1", "-",
  } do
    if text ~= "-" then eq(yaml.decode("v: " .. text).v, text) end
  end
end)

test("a version stays the text that somebody wrote", function()
  eq(yaml.decode("version: 1.10").version, "1.10")
  eq(yaml.decode("versions: [1.10, 1.2.3, v2]").versions, { "1.10", "1.2.3", "v2" })
end)

test("quoted is text, keys are text", function()
  eq(yaml.decode [[{a: "42", b: 'true', c: "", d: 'null', 8080: x, true: y, null: z, "": e}]], {
    a = "42", b = "true", c = "", d = "null", ["8080"] = "x", ["true"] = "y", null = "z", [""] = "e",
  })
  eq(yaml.decode "a: |\n  one\n  two\nb: >\n  one\n  two\n", { a = "one\ntwo\n", b = "one two\n" })
  eq(yaml.decode [["\x41\u00e9\U0001F600\0"]], "Aé😀\0")
end)

test("lists are lists, also when they are empty", function()
  local value = ok(yaml.decode "a: []\nb: {}\nc:\n- 1\n- - 2\n")
  eq(json.encode(value), '{"a":[],"b":{},"c":[1,[2]]}')
  eq(json.is_array(value.a), true)
end)

test("null_as_nil leaves nulls out", function()
  local value = yaml.decode("a: ~\nb: 1\nc: [~, 2]\nd: {e: }", { null_as_nil = true })
  eq(value.a, nil)
  eq(value.b, 1)
  eq(value.c[1], nil)
  eq(value.c[2], 2)
  eq(next(value.d), nil)
  eq(yaml.decode("", { null_as_nil = true }), nil)
  fails("invalid", yaml.decode("a: ~\na: 1", { null_as_nil = true }))
end)

test("one document or several", function()
  eq(yaml.decode "" == json.null, true)
  eq(yaml.decode "# only a comment\n" == json.null, true)
  eq(yaml.decode "--- 1\n...\n", 1)
  eq(yaml.decode_all "", {})
  eq(yaml.decode_all "a: 1\n---\nb: 2\n--- 3\n...\n", { { a = 1 }, { b = 2 }, 3 })
  local all = ok(yaml.decode_all "---\n---\nx\n")
  eq(#all, 2)
  eq(all[1] == json.null, true)
  local err = fails("invalid", yaml.decode "a: 1\n---\nb: 2\n")
  eq(err.line, 2)
  local _, marks = yaml.decode_all("a: 1\n---\nb:\n- c\n", { marks = true })
  eq(marks, { { [""] = 1, a = 1 }, { [""] = 3, b = 3, ["b[1]"] = 4 } })
end)

test("marks say on which line each value stands", function()
  local _, marks = yaml.decode([[
apps:
  web:
    source: "x"
    verify:
      - http: y

      - command: [a,
          b]
registries:
  127.0.0.1:5101: {plain_http: true}
]], { marks = true })
  eq(marks, {
    [""] = 1, apps = 1, ["apps.web"] = 2, ["apps.web.source"] = 3, ["apps.web.verify"] = 4,
    ["apps.web.verify[1]"] = 5, ["apps.web.verify[1].http"] = 5, ["apps.web.verify[2]"] = 7,
    ["apps.web.verify[2].command"] = 7, ["apps.web.verify[2].command[1]"] = 7,
    ["apps.web.verify[2].command[2]"] = 8, registries = 9, ["registries.127.0.0.1:5101"] = 10,
    ["registries.127.0.0.1:5101.plain_http"] = 10,
  })
  eq(select("#", yaml.decode "a: 1"), 1)
end)

test("aliases are values of their own", function()
  local value, marks = yaml.decode("a: &x {k: [1]}\nb: *x\nc: [*x]\n", { marks = true })
  eq(value, { a = { k = { 1 } }, b = { k = { 1 } }, c = { { k = { 1 } } } })
  eq(value.a ~= value.b and value.a.k ~= value.b.k, true)
  eq(marks["b"], 2)
  eq(marks["b.k"], 1)
  eq(yaml.decode "[&a 1, *a, &a 2, *a]", { 1, 1, 2, 2 })
  eq(yaml.decode "a: &k name\n*k : 1", { a = "name", name = 1 })
  -- inside a replayed anchor, names mean what they meant there
  eq(yaml.decode "[&a 1, &l [*a], &a 2, *l, *a]", { 1, { 1 }, 2, { 1 }, 2 })
  fails("invalid", yaml.decode "a: *nobody")
  fails("invalid", yaml.decode "a: &x [*x]")
  fails("invalid", yaml.decode "&x {a: {b: *x}}")
  fails("invalid", yaml.decode "a: *late\nb: &late 1")
  fails("invalid", yaml.decode_all "--- &x 1\n--- *x\n")
end)

test("merge keys fill in what a mapping does not say itself", function()
  eq(yaml.decode "base: &b {k: 1, j: 2}\nx:\n  k: 9\n  <<: *b\n".x, { k = 9, j = 2 })
  eq(yaml.decode "base: &b {k: 1, j: 2}\nx:\n  <<: *b\n  k: 9\n".x, { k = 9, j = 2 })
  eq(yaml.decode "a: &a {k: 1}\nb: &b {k: 2, j: 2}\nx: {<<: [*a, *b]}".x, { k = 1, j = 2 })
  eq(yaml.decode "a: &a {k: 1}\nb: &b {<<: *a, j: 2}\nx: {<<: *b}".x, { k = 1, j = 2 })
  eq(yaml.decode "x: {<<: {k: 1}, j: 2}".x, { k = 1, j = 2 })
  eq(yaml.decode "x: {'<<': 1}".x, { ["<<"] = 1 })
  eq(yaml.decode("a: &a {k: 1}\nx: {<<: *a, k: ~}", { null_as_nil = true }).x, {})
  fails("invalid", yaml.decode "x: {<<: 1}")
  fails("invalid", yaml.decode "x: {<<: [1]}")
  fails("invalid", yaml.decode "a: &a {}\nx: {<<: *a, <<: *a}")
  fails("invalid", yaml.decode "x: {<<: {k: 1, k: 2}}")
end)

test("duplicate keys are refused with their place", function()
  local err = fails("invalid", yaml.decode "a: 1\nb: 2\na: 3\n")
  eq({ err.line, err.column }, { 3, 1 })
  has(tostring(err), "yaml.decode: invalid: line 3, column 1: duplicate key")
  fails("invalid", yaml.decode "{1: a, '1': b}")
  fails("invalid", yaml.decode "a: &x k\nb: {k: 1, *x : 2}")
  fails("invalid", yaml.decode '{"a": 1, "\\x61": 2}')
end)

test("tags of others are refused, five of YAML's own count", function()
  eq(yaml.decode [[{a: !!str 42, b: !!int "42", c: !!bool "true", d: !!null "", e: ! 42, f: !!map {}, g: !!seq []}]],
    { a = "42", b = 42, c = true, d = json.null, e = "42", f = {}, g = {} })
  fails("invalid", yaml.decode "a: !!int x")
  fails("invalid", yaml.decode "a: !!bool yes")
  for _, text in ipairs {
    "!custom 1", "!!python/object/apply:os.system ['x']", "!!binary aGk=", "!!timestamp 2024-01-01", "!!set {a}",
    "!<tag:example.com,2024:x> 1", "%TAG !e! tag:example.com,2024:\n--- !e!x 1", "!!float 1.5", "!!merge <<",
  } do
    fails("unsupported", yaml.decode(text))
  end
  local err = fails("unsupported", yaml.decode "x:\n- !foo {}")
  eq({ err.line, err.column }, { 2, 3 })
  fails("unsupported", yaml.decode "{!!float 1: a}")
end)

test("keys that are no scalars are refused", function()
  fails("unsupported", yaml.decode "? [a]\n: b")
  fails("unsupported", yaml.decode "{{a: 1}: b}")
  fails("unsupported", yaml.decode "a: &x [1]\n*x : 1")
  fails("invalid", yaml.decode ": x")
end)

test("bad text is an error with line and column", function()
  local err = fails("invalid", yaml.decode "a:\n  - b\n c: d\n")
  eq({ err.line, err.column }, { 3, 2 })
  for _, text in ipairs { "a: [", "a: {", "a: 'x", 'a: "x', "a: b: c", "\t- a", "a: \xFF", "a: \0", "@x",
    "`x`", "- a\nb: c",
    '"\\ud800"', '"\\q"', "%YAML 3.0\n--- 1", "a: |9\n x", "}", "*", "&", "\xFF\xFEa\0" } do
    fails("invalid", yaml.decode(text))
  end
end)

test("a tab in the indentation is called by its name", function()
  for text, at in pairs {
    ["a:\n\tb: 1\n"] = { 2, 1 }, ["a:\n  b: 1\n\tc: 2\n"] = { 3, 1 }, ["\ta: 1"] = { 1, 1 },
    ["a:\n  - b: 1\n  \tc: 2\n"] = { 3, 3 },
  } do
    local err = fails("invalid", yaml.decode(text))
    eq({ err.line, err.column }, at)
    has(tostring(err), "a tab: YAML is indented by spaces")
  end
  eq(yaml.decode "a:\tb\nc: \"x\ty\"", { a = "b", c = "x\ty" })
end)

test("bounds depth, nodes and size", function()
  ok(yaml.decode(("["):rep(64) .. ("]"):rep(64)))
  fails("too_large", yaml.decode(("["):rep(65) .. ("]"):rep(65)))
  ok(yaml.decode("[a, b]", { nodes = 4 }))
  fails("too_large", yaml.decode("[a, b, c]", { nodes = 4 }))
  fails("too_large", yaml.decode("[&a [b, c], *a, *a]", { nodes = 11 }))
  ok(yaml.decode("[&a [b, c], *a, *a]", { nodes = 14 }))
  fails("too_large", yaml.decode("abcdef", { max = 5 }))
  -- an alias carries its target's depth
  local deep = "a: &a " .. ("["):rep(40) .. ("]"):rep(40) .. "\nb: " .. ("["):rep(30) .. "*a" .. ("]"):rep(30)
  fails("too_large", yaml.decode(deep))
end)

-- Each returns a text that is small as bytes and huge as a value.
local family = {
  laughs = function(open, close, wide, deep)
    local lines = { "a0: &a0 " .. open .. ("x,"):rep(wide) .. close }
    for i = 1, deep do
      lines[#lines + 1] = ("a%d: &a%d %s%s%s"):format(i, i, open, ("*a%d,"):format(i - 1):rep(wide), close)
    end
    return table.concat(lines, "\n")
  end,
}

test("billion laughs stop at the budget", function()
  local function refused(name, text)
    local start = time.cpu()
    local value, err = yaml.decode(text, { marks = true })
    local took = time.cpu() - start
    if value ~= nil then error(name .. " was read", 2) end
    eq(err.code, "too_large", name)
    if took > 30 then error(("%s took %.1f s"):format(name, took), 2) end
  end
  refused("lists", family.laughs("[", "]", 9, 20))
  refused("nine levels, the classic", family.laughs("[", "]", 9, 9))
  refused("the Kubernetes shape", family.laughs("[", "]", 26, 26))
  local maps = { "a0: &a0 {k: v}" }
  for i = 1, 30 do maps[#maps + 1] = ("a%d: &a%d {l: *a%d, r: *a%d}"):format(i, i, i - 1, i - 1) end
  refused("mappings", table.concat(maps, "\n"))
  local merges = { "a0: &a0 {k0: v}" }
  for i = 1, 40 do merges[#merges + 1] = ("a%d: &a%d {<<: [*a%d, *a%d], k%d: v}"):format(i, i, i - 1, i - 1, i) end
  refused("merge keys", table.concat(merges, "\n"))
  local empty = { "a0: &a0 {}" }
  for i = 1, 40 do empty[#empty + 1] = ("a%d: &a%d {<<: [*a%d, *a%d]}"):format(i, i, i - 1, i - 1) end
  refused("merge keys without a key", table.concat(empty, "\n"))
  refused("one long text, often", "a: &a " .. ("x"):rep(1 << 20) .. "\nb: [" .. ("*a,"):rep(100000) .. "]")
  refused("a long key, many paths", "? " .. ("k"):rep(200000) .. "\n: [" .. ("x,"):rep(100000) .. "]")
end)

test("large texts that are honest are read in time", function()
  local lines = {}
  for i = 1, 50000 do
    lines[i] = ("- name: chart-%d\n  version: 1.%d.0\n  urls: [https://example.com/%d.tgz]"):format(i, i, i)
  end
  local start = time.cpu()
  local value = ok(yaml.decode("entries:\n" .. table.concat(lines, "\n"), { marks = true }))
  eq(#value.entries, 50000)
  eq(#ok(yaml.decode("[" .. ("a,"):rep(400000) .. "]")), 400000)
  if time.cpu() - start > 30 then error("too slow") end
end)

test("writes plain text where every reader agrees, quotes elsewhere", function()
  eq(yaml.encode {
    a = "web", b = "1.10", c = "yes", d = "", e = 42, f = true, g = json.null, h = "42", i = "null", j = "a: b",
    k = json.array {}, l = {}, m = { "x", { y = "z" } }, n = "line one\nline two\n", o = 1.5, p = "NO",
    q = "# no", r = "~",
    s = "2024-01-01", t = "/path/x", u = "-", v = "a #b", w = 2.0,
  }, [[
a: web
b: '1.10'
c: 'yes'
d: ''
e: 42
f: true
g: null
h: '42'
i: 'null'
j: 'a: b'
k: []
l: {}
m:
- x
- 'y': z
'n': |
  line one
  line two
o: 1.5
p: 'NO'
q: '# no'
r: '~'
s: '2024-01-01'
t: /path/x
u: '-'
v: 'a #b'
w: 2
]])
end)

test("several documents are written one after the other", function()
  local text = ok(yaml.encode_all { { a = 1 }, { 2 }, "x" })
  eq(yaml.decode_all(text), { { a = 1 }, { 2 }, "x" })
  has(text, "---")
  eq(yaml.encode_all {}, "")
  raises("usage: yaml.encode_all", yaml.encode_all, "x")
  fails("invalid", yaml.encode_all { a = 1 })
end)

test("what is written reads back the same", function()
  math.randomseed(7)
  local pieces = { "a", "1", "0", ".", ":", " ", "-", "#", "\n", "'", '"', "\\", "é", "😀", "{", "[", "&", "*",
    "!", "|", ">",
    "%", "@", "`", ",", "?", "\t", "\1", "\127", "\r", "~", "<<", "true", "\u{85}", "\u{2028}", "\u{FEFF}",
    "\0", "---", "..." }
  local function text()
    local out = {}
    for i = 1, math.random(0, 6) do out[i] = pieces[math.random(#pieces)] end
    return table.concat(out)
  end
  local function random(depth)
    local kind = math.random(depth > 3 and 4 or 6)
    if kind == 1 then return math.random(math.mininteger, math.maxinteger) end
    if kind == 2 then return math.random(2) == 1 end
    if kind == 3 then return math.random(4) == 1 and json.null or text() end
    if kind == 4 then return text() end
    local out = kind == 5 and json.array {} or {}
    for i = 1, math.random(0, 4) do out[kind == 5 and i or text()] = random(depth + 1) end
    return out
  end
  for _ = 1, 5000 do
    local value = random(0)
    local written = ok(yaml.encode(value))
    local again, err = yaml.decode(written)
    if again == nil then error(tostring(err) .. "\n" .. written) end
    eq(json.encode(again), ok(json.encode(value)), written)
    eq(yaml.encode(again), written)
  end
end, 120)

test("what YAML cannot hold is an error with its place", function()
  local cycle = {}
  cycle[1] = cycle
  has(fails("invalid", yaml.encode { apps = { { f = print } } }).message, "apps[1].f is a function")
  fails("invalid", yaml.encode { a = 0 / 0 })
  fails("invalid", yaml.encode { "\xFF" })
  fails("invalid", yaml.encode { ["\xFF"] = 1 })
  fails("invalid", yaml.encode { 1, a = 2 })
  fails("invalid", yaml.encode(nil))
  fails("too_large", yaml.encode(cycle))
  fails("too_large", yaml.encode({ ("x"):rep(1000) }, { max = 100 }))
  local node = { 1, 2 }
  for _ = 1, 40 do node = { node, node } end
  fails("too_large", yaml.encode(node, { max = 1 << 20 }))
end)

test("mistakes of the caller raise", function()
  raises("usage: yaml.decode(", yaml.decode)
  raises("usage: yaml.decode(", yaml.decode, 42)
  raises("usage: yaml.decode_all(", yaml.decode_all, {})
  raises("did you mean 'marks'", yaml.decode, "a", { mark = true })
  raises("usage: yaml.decode(", yaml.decode, "a", { nodes = 0 })
  raises("unknown option", yaml.encode, 1, { indent = 2 })
end)

-- yaml_kubernetes.jsonl holds plain scalars with what sigs.k8s.io/yaml 1.6.0 makes of them, as values and as keys.
test("a Kubernetes object's scalars mean what kubectl takes them for", function()
  local compared = 0
  for line in ok(fs.read("tests/api/yaml_kubernetes.jsonl")):gmatch("[^\n]+") do
    local case = ok(json.decode(line))
    local value, err = yaml.decode("a: " .. case.text, { kubernetes = true })
    if case.value then
      local got, want = ok(value, err).a, case.value.a
      eq(got, want, ("%q"):format(case.text))
      eq(math.type(got), math.type(want), ("%q"):format(case.text))
    else
      fails("invalid", value, err)
    end
    local keyed, wrong = yaml.decode("{" .. case.text .. ": 1}", { kubernetes = true })
    if case.key then
      eq((next(ok(keyed, wrong))), case.key, ("%q"):format(case.text))
    else
      fails("invalid", keyed, wrong)
    end
    compared = compared + 1
  end
  ok(compared > 300)
end)

test("what is quoted or tagged as text stays text in a Kubernetes object, too", function()
  eq(yaml.decode('a: !!int 0x10\nb: !!int "1_000"\nc: !!bool yes\nd: !!null ""\n', { kubernetes = true }),
    { a = 16, b = 1000, c = true, d = json.null })
  for _, text in ipairs { "!!int yes", "!!bool 1", "!!int 1.5", "!!null 0" } do
    fails("invalid", yaml.decode("a: " .. text, { kubernetes = true }))
  end
  fails("invalid", yaml.decode "a: !!int 0x10")
  local value = ok(yaml.decode("a: 'yes'\nb: \"0x10\"\nc: !!str 1.0\nd: |-\n  100.0\n'on': 1\n", { kubernetes = true }))
  eq(value, { a = "yes", b = "0x10", c = "1.0", d = "100.0", on = 1 })
end)

test("a byte order mark does not move what stands behind it", function()
  for _, kubernetes in ipairs { false, true } do
    eq(yaml.decode("\u{FEFF}a: 1\nb: 2\n", { kubernetes = kubernetes }), { a = 1, b = 2 })
    eq(yaml.decode("\u{FEFF}---\n- a\n- b\n", { kubernetes = kubernetes }), { "a", "b" })
  end
end)

-- What is wanted here was seen with sigs.k8s.io/yaml 1.6.0.
test("every tag of a Kubernetes object is read as kubectl reads it", function()
  local function read(text) return yaml.decode(text, { kubernetes = true }) end
  eq(read [[{a: !!float 1, b: !!float "1.5", c: !foo 5, d: !!timestamp 2001-01-01, e: !foo {f: 1}, g: !!int [1]}]],
    { a = 1, b = 1.5, c = "5", d = "2001-01-01", e = { f = 1 }, g = { 1 } })
  eq(read "a: !!binary |\n  aGVs\n  bG8=\n!!binary aGk=: 5\nb: !!int 0xFFFFFFFFFFFFFFFF\n",
    { a = "hello", hi = 5, b = 2.0 ^ 64 })
  eq(read '{!!float 0x10: a, !!str yes: b, !foo on: c, !!bool y: d, !!str : e}',
    { ["16"] = "a", yes = "b", on = "c", ["true"] = "d", [""] = "e" })
  for _, text in ipairs {
    "!!float x", "!!float 18446744073709551615", "!!float .inf", "!!binary '@'", "{18446744073709551615: a}",
    "{!!int 1.5: a}", "{!!null '': a}",
  } do
    fails("invalid", read(text))
  end
end)

test("a merge key of a Kubernetes object overwrites what stands above it", function()
  local function read(text) return yaml.decode(text, { kubernetes = true }) end
  local text = "{a: 1, <<: {a: 2, b: 3, c: 4}, c: 5}"
  eq(read(text), { a = 2, b = 3, c = 5 })
  eq(yaml.decode(text), { a = 1, b = 3, c = 5 })
  eq(read "{<<: {a: 1, b: 1}, <<: [{a: 2}, {a: 3, c: 4}], !!merge <<: {d: 5}}", { a = 2, b = 1, c = 4, d = 5 })
  eq(yaml.decode "{!!merge <<: {a: 1}}", { a = 1 })
  fails("invalid", read "{a: 1, <<: {a: 2}, a: 3}")
end)
