/* The budgeted string and table functions against the stock ones that they replace, on random input. */
#include "unit.h"
#include <lauxlib.h>
#include <lualib.h>
#include "api.h"
#include "err_lua.h"
#include "pattern.h"
#include "text.h"

/* A state with the stock tables kept as stock_string and stock_table. */
static lua_State *state_open(void)
{
    lua_State *L = luaL_newstate();

    luaL_openlibs(L);
    err_register(L);
    if (luaL_dostring(L, "stock_string, stock_table = {}, {}\n"
                         "for k, v in pairs(string) do stock_string[k] = v end\n"
                         "for k, v in pairs(table) do stock_table[k] = v end\n"))
        abort();
    text_register(L);
    tables_register(L);
    return L;
}

static void check_lua(lua_State *L, const char *code)
{
    if (luaL_dostring(L, code) != LUA_OK) {
        printf("  %s\n", luaL_tolstring(L, -1, NULL));
        CHECK(false);
    }
    lua_settop(L, 0);
}

/* Lua that the cases share: random patterns, and a call whose outcome is one comparable list. */
static const char GENERATOR[] =
    "math.randomseed(SEED)\n"
    "local random, concat = math.random, stock_table.concat\n"
    "local function pick(list) return list[random(#list)] end\n"
    "local singles = "
    "{'a','b','c','.','%a','%d','%s','%w','%A','%p','%.','%%','[ab]','[^a]','[a-c]','[%w_]','[^%s]',\n"
    "  "
    "'[]a]','[^]a]','[a-]','[+-%d]','[%a-z]','[%]]','-','x','\\0','%z','[\\0a]','$','^','%g','%x','%u','%l','"
    "%c','%D'}\n"
    "local others = "
    "{'%0','%b()','%bab','(.)%1','([ab]+)-?%1','(%w-)%1','(a*(.)%2)','%f[%c]','%f[%z]','%f[%w]','%f[^%w]','%"
    "f[a]',"
    "'()','%1','%2','(','(',')',')','[','%','%b','%f','%9','[^','["
    "a','[%'}\n"
    "local repeats = {'','','','*','+','-','?'}\n"
    "function random_pattern()\n"
    "  local t, open = {}, 0\n"
    "  if random(6) == 1 then t[1] = '^' end\n"
    "  for _ = 1, random(0, 6) do\n"
    "    local r = random(12)\n"
    "    if r <= 8 then t[#t + 1] = pick(singles) .. pick(repeats)\n"
    "    elseif r == 9 then t[#t + 1] = '(' open = open + 1\n"
    "    elseif r == 10 and open > 0 then t[#t + 1] = ')' open = open - 1\n"
    "    else t[#t + 1] = pick(others) end\n"
    "  end\n"
    "  if random(8) > 1 then for _ = 1, open do t[#t + 1] = ')' end end\n"
    "  if random(6) == 1 then t[#t + 1] = '$' end\n"
    "  return concat(t)\n"
    "end\n"
    "local bytes = {'a','b','c','a','b','(',')',' "
    "','1','_','.','%','-','x','\\0','\\1','\\200','Z',']','^','$'}\n"
    "function random_text()\n"
    "  local t = {}\n"
    "  for i = 1, random(0, 14) do t[i] = pick(bytes) end\n"
    "  return concat(t)\n"
    "end\n"
    /* without the position, the argument's number and the function's name, which depend on the caller */
    "local function plain(message)\n"
    "  message = stock_string.gsub(message, '^[^:]*:%d+: ', '')\n"
    "  return (stock_string.gsub(message, \"^bad argument #%d to '.-'\", 'bad argument'))\n"
    "end\n"
    "function outcome(f, ...)\n"
    "  local r = stock_table.pack(pcall(f, ...))\n"
    "  for i = 1, r.n do\n"
    "    r[i] = (math.type(r[i]) or type(r[i])) .. ' ' .. plain(tostring(r[i]))\n"
    "  end\n"
    "  return concat(r, '\\1', 1, r.n)\n"
    "end\n"
    "function agree(what, ours, stock, ...)\n"
    "  local a, b = outcome(ours, ...), outcome(stock, ...)\n"
    "  if a ~= b then\n"
    "    local args = stock_table.pack(...)\n"
    "    for i = 1, args.n do args[i] = stock_string.format('%q', tostring(args[i])) end\n"
    "    error(what .. '(' .. concat(args, ', ') .. '): ours ' .. a .. ', stock ' .. b)\n"
    "  end\n"
    "  return stock_string.sub(a, 1, 12) == 'boolean true'\n"
    "end\n";

static lua_State *generator_open(void)
{
    const char *seed = getenv("SEED");
    lua_State *L = state_open();

    lua_pushinteger(L, seed ? atoll(seed) : 20261123);
    lua_setglobal(L, "SEED");
    check_lua(L, GENERATOR);
    return L;
}

UNIT(find_and_match_agree_with_stock)
{
    lua_State *L = generator_open();

    check_lua(L, "local good = 0\n"
                 "for _ = 1, 20000 do\n"
                 "  local s, p = random_text(), random_pattern()\n"
                 "  local init = math.random(4) == 1 and math.random(-16, 16) or nil\n"
                 "  if agree('find', string.find, stock_string.find, s, p, init) then good = good + 1 end\n"
                 "  agree('match', string.match, stock_string.match, s, p, init)\n"
                 "  agree('plain', string.find, stock_string.find, s, p, init, true)\n"
                 "  agree('plain', string.find, stock_string.find, s, stock_string.sub(s, 3, 5), init)\n"
                 "end\n"
                 "assert(good > 10000, good)\n");
    lua_close(L);
}

UNIT(gsub_agrees_with_stock)
{
    lua_State *L = generator_open();

    check_lua(L, "local repls = {'', 'x', '<%0>', '%1', '%1%2', '%%', '%', '%x', 'a%', 7, 1.5,\n"
                 "  setmetatable({a = 'A', b = 9, c = false}, {__index = function(_, k) return #tostring(k) "
                 "> 1 and k end}),\n"
                 "  {a = {}}, function(...) return select('#', ...) .. tostring((...)) end, function() end,\n"
                 "  function() return true end, function() error('boom', 0) end}\n"
                 "for _ = 1, 20000 do\n"
                 "  local s, p = random_text(), random_pattern()\n"
                 "  local n = math.random(3) == 1 and math.random(-1, 3) or nil\n"
                 "  agree('gsub', string.gsub, stock_string.gsub, s, p, repls[math.random(#repls)], n)\n"
                 "end\n"
                 "agree('gsub', string.gsub, stock_string.gsub, 'a', 'a')\n"
                 "agree('gsub', string.gsub, stock_string.gsub, 'a', 'a', true)\n"
                 "agree('gsub', string.gsub, stock_string.gsub, 12, 1, 2)\n");
    lua_close(L);
}

UNIT(gmatch_agrees_with_stock)
{
    lua_State *L = generator_open();

    check_lua(L, "local function all(gmatch)\n"
                 "  return function(s, p, init)\n"
                 "    local t = {}\n"
                 "    for a, b, c in gmatch(s, p, init) do\n"
                 "      t[#t + 1] = tostring(a) .. '|' .. tostring(b) .. '|' .. tostring(c)\n"
                 "    end\n"
                 "    return stock_table.concat(t, ';')\n"
                 "  end\n"
                 "end\n"
                 "local ours, stock = all(string.gmatch), all(stock_string.gmatch)\n"
                 "for _ = 1, 20000 do\n"
                 "  local init = math.random(4) == 1 and math.random(-16, 16) or nil\n"
                 "  agree('gmatch', ours, stock, random_text(), random_pattern(), init)\n"
                 "end\n");
    lua_close(L);
}

UNIT(every_class_and_byte_agrees)
{
    lua_State *L = generator_open();

    check_lua(L, "for byte = 0, 255 do\n"
                 "  local c = string.char(byte)\n"
                 "  for letter = 0, 255 do\n"
                 "    local p = '%' .. string.char(letter)\n"
                 "    if letter ~= 48 and not stock_string.find(p, '[%dbf]') then\n"
                 "      agree('class', string.find, stock_string.find, c, p)\n"
                 "      agree('class', string.find, stock_string.find, c, '[' .. p .. ']')\n"
                 "      agree('class', string.find, stock_string.find, c, '[^' .. p .. ']')\n"
                 "    end\n"
                 "  end\n"
                 "end\n");
    lua_close(L);
}

UNIT(long_patterns_and_many_captures)
{
    lua_State *L = generator_open();

    check_lua(
        L,
        "for _, n in ipairs {31, 32, 33, 40} do\n"
        "  agree('captures', string.match, stock_string.match, ('a'):rep(50), ('(.)'):rep(n))\n"
        "  agree('captures', string.gsub, stock_string.gsub, ('a'):rep(50), ('()'):rep(n), '%1')\n"
        "end\n"
        "agree('captures', string.gsub, stock_string.gsub, 'abcdefghij', ('(.)'):rep(9), '%9%1')\n"
        "agree('captures', string.gsub, stock_string.gsub, 'abcdefghij', ('(.)'):rep(8), '%9%1')\n"
        "local long = stock_string.rep('x', 5000)\n"
        "agree('long', string.find, stock_string.find, 'y' .. long .. 'y', '(' .. long .. ')y')\n"
        "agree('long', string.match, stock_string.match, long, stock_string.rep('[x]', 5000))\n"
        "agree('long', string.gsub, stock_string.gsub, long, '(x)(x)', '%2-%1')\n"
        "for a in string.gmatch(long, '(' .. stock_string.rep('%w', 2000) .. ')') do assert(#a == 2000) end\n"
        /* stock gives up here with 'pattern too complex': ours has no recursion to limit */
        "assert(string.find(long, ('x?'):rep(3000)) == 1)\n");
    lua_close(L);
}

UNIT(a_budget_ends_what_would_not_end)
{
    lua_State *L = state_open();

    check_lua(L, "local function spent(f, ...)\n"
                 "  local ok, e = pcall(f, ...)\n"
                 "  assert(not ok and type(e) == 'table' and e.code == 'budget', tostring(e))\n"
                 "end\n"
                 "local s = stock_string.rep('a', 30)\n"
                 "local bomb = stock_string.rep('a?', 30) .. s\n"
                 "spent(string.find, s .. 'b', stock_string.rep('a-', 28) .. 'c')\n"
                 "spent(string.match, stock_string.rep('a', 3000), '.-.-.-.-b')\n"
                 "spent(string.gsub, stock_string.rep('a', 3000), '.*.*.*b', '')\n"
                 "for _ = 1, 3 do spent(string.gmatch(stock_string.rep('a', 3000), '(.-)(.-)(.-)b')) end\n"
                 "spent(string.find, stock_string.rep('(', 100000), '%b()')\n"
                 "spent(string.find, stock_string.rep('a', 100000), '(a*)%1%1b')\n"
                 "spent(string.gsub, stock_string.rep('a', 100000), '(b*)', stock_string.rep('%1', 100000))\n"
                 "spent(string.find, s, bomb)\n"
                 "local big = stock_string.rep('word ', 200000)\n" /* honest work is never near the limit */
                 "assert(select(2, string.gsub(big, '%a+', '%0!')) == 200000)\n"
                 "assert(select(2, string.gsub(big, '(%w+)%s*', string.upper)) == 200000)\n"
                 "local n = 0 for _ in string.gmatch(big, '%S+') do n = n + 1 end assert(n == 200000)\n"
                 "assert(#string.match(big, '^%s*(.-)%s*$') == #big - 1)\n");
    lua_close(L);
}

UNIT(results_have_a_size)
{
    lua_State *L = generator_open();

    check_lua(
        L,
        "local function large(f, ...)\n"
        "  local ok, e = pcall(f, ...)\n"
        "  assert(not ok and type(e) == 'table' and e.code == 'too_large', tostring(e))\n"
        "end\n"
        "large(string.rep, 'x', 1 << 40)\n"
        "large(string.rep, 'x', math.maxinteger)\n"
        "large(string.rep, 'x', 3, stock_string.rep('y', 40 << 20))\n"
        "large(string.rep, 'xy', (32 << 20) + 1)\n"
        "assert(#string.rep('x', 64 << 20) == 64 << 20)\n"
        "assert(#string.rep('x', 2, stock_string.rep('y', (64 << 20) - 2)) == 64 << 20)\n" /* a last separator
                                                                                              is none */
        "large(string.rep, 'x', 2, stock_string.rep('y', (64 << 20) - 1))\n"
        "assert(string.rep('', 1 << 60) == '')\n" /* stock loops through all of them */
        "large(string.gsub, stock_string.rep('a', 1 << 17), 'a', stock_string.rep('b', 1 << 10))\n"
        "large(string.gsub, stock_string.rep('a', 1 << 17), 'a', function() return "
        "stock_string.rep('b', 1 << 10) end)\n"
        "for _ = 1, 3000 do\n"
        "  agree('rep', string.rep, stock_string.rep, random_text(), math.random(-1, 40), "
        "math.random(2) == 1 and random_text() or nil)\n"
        "end\n"
        "agree('rep', string.rep, stock_string.rep, 'x')\n");
    lua_close(L);
}

UNIT(strings_keep_their_metatable)
{
    lua_State *L = state_open();

    check_lua(L, "assert(getmetatable('') == false)\n"
                 "assert(not pcall(setmetatable, '', {}))\n"
                 "assert(('abc'):rep(2) == 'abcabc' and ('a'):find('a') == 1)\n"
                 "assert(('x').rep ~= stock_string.rep and ('x').find ~= stock_string.find)\n");
    lua_close(L);
}

UNIT(tables_agree_with_stock)
{
    lua_State *L = generator_open();

    check_lua(L,
              "local function list()\n"
              "  local t = {}\n"
              "  for i = 1, math.random(0, 12) do t[i] = math.random(9) end\n"
              "  local whole = math.random(20) > 1\n"
              "  if not whole then t[math.random(12)] = nil end\n"
              "  return t, whole\n"
              "end\n"
              "local function on(f)\n"
              "  return function(t, ...)\n"
              "    local copy = {}\n"
              "    for k, v in pairs(t) do copy[k] = v end\n"
              "    local r = stock_table.pack(f(copy, ...))\n"
              "    local s = ''\n"
              "    for i = -3, 30 do s = s .. tostring(copy[i]) .. ',' end\n"
              "    for i = 1, r.n do s = s .. ';' .. (r[i] == copy and 'self' or tostring(r[i])) end\n"
              "    return s\n"
              "  end\n"
              "end\n"
              "local function number() return math.random(-2, 14) end\n"
              "local function maybe() if math.random(3) > 1 then return number() end end\n"
              "for _ = 1, 8000 do\n"
              "  local t, whole = list()\n"
              "  agree('insert', on(table.insert), on(stock_table.insert), t, 'new')\n"
              "  agree('insert', on(table.insert), on(stock_table.insert), t, number(), 'new')\n"
              "  agree('remove', on(table.remove), on(stock_table.remove), t, maybe())\n"
              "  agree('move', on(table.move), on(stock_table.move), t, number(), number(), number())\n"
              "  agree('move', on(table.move), on(stock_table.move), t, number(), number(), number(), {})\n"
              "  agree('concat', on(table.concat), on(stock_table.concat), t, math.random(3) == 1 and '-' or "
              "nil, maybe(), maybe())\n"
              "  agree('unpack', on(table.unpack), on(stock_table.unpack), t, maybe(), maybe())\n"
              "  if whole then agree('sort', on(table.sort), on(stock_table.sort), t) end\n"
              "  if whole then agree('sort', on(table.sort), on(stock_table.sort), t, function(a, b) return "
              "a > b end) end\n"
              "end\n"
              "for name in pairs(stock_table) do\n"
              "  for _, bad in ipairs {7, 'text', print, false} do\n"
              "    if name ~= 'pack' and name ~= 'unpack' then agree(name, table[name], stock_table[name], "
              "bad, 1, 1, 1) end\n"
              "  end\n"
              "end\n"
              "local function like(meta)\n" /* numbers that pass for lists, wholly or in part */
              "  debug.setmetatable(7, meta)\n"
              "  agree('concat', table.concat, stock_table.concat, 7, ',')\n"
              "  agree('unpack', table.unpack, stock_table.unpack, 7)\n"
              "  agree('insert', table.insert, stock_table.insert, 7, 1, 2)\n"
              "  agree('remove', table.remove, stock_table.remove, 7, 1)\n"
              "  agree('move', table.move, stock_table.move, 7, 1, 3, 2)\n"
              "  agree('move', table.move, stock_table.move, {1, 2, 3}, 1, 3, 2, 7)\n"
              "  agree('sort', table.sort, stock_table.sort, 7)\n"
              "  debug.setmetatable(7, nil)\n"
              "end\n"
              "local function index(_, i) return i end\n"
              "like {__index = index, __len = function() return 3 end, __newindex = function() end}\n"
              "like {__index = index, __len = function() return 3 end}\n"
              "like {__index = index, __newindex = function() end}\n"
              "like {__newindex = function() end, __len = function() return 3 end}\n"
              "like {__len = function() return 3 end}\n"
              "like {}\n"
              "agree('insert', table.insert, stock_table.insert, {})\n"
              "agree('insert', table.insert, stock_table.insert, {}, 1, 2, 3)\n"
              "agree('sort', table.sort, stock_table.sort, {1, 2}, 3)\n"
              "agree('sort', table.sort, stock_table.sort, {1, {}})\n"
              "agree('concat', table.concat, stock_table.concat, {1, {}, 2})\n"
              "agree('unpack', table.unpack, stock_table.unpack, {}, 1, 1e8)\n"
              "agree('unpack', table.unpack, stock_table.unpack, {}, math.mininteger, math.maxinteger)\n"
              "agree('move', table.move, stock_table.move, {}, 1, 2, math.maxinteger)\n"
              "agree('move', table.move, stock_table.move, {}, -1, math.maxinteger, 2)\n"
              "agree('concat', table.concat, stock_table.concat, {}, '', math.maxinteger, math.maxinteger)\n"
              "assert(table.concat(setmetatable({}, {__index = function(_, i) return i end, __len = "
              "function() return 4 end}), ' ') == '1 2 3 4')\n");
    lua_close(L);
}

UNIT(table_loops_have_a_size)
{
    lua_State *L = state_open();

    check_lua(
        L, "local function large(f, ...)\n"
           "  local ok, e = pcall(f, ...)\n"
           "  assert(not ok and type(e) == 'table' and e.code == 'too_large', tostring(e))\n"
           "end\n"
           "local endless = setmetatable({}, {__len = function() return 1 << 60 end, __index = math.type})\n"
           "large(table.insert, endless, 1, 'x')\n"
           "large(table.remove, endless, 1)\n"
           "large(table.sort, endless)\n"
           "large(table.concat, endless)\n"
           "large(table.concat, {}, '', 1, math.maxinteger)\n"
           "large(table.concat, {}, '', math.mininteger, math.maxinteger)\n"
           "large(table.move, endless, 1, 1 << 60, 2)\n"
           "large(table.move, {}, 1, math.maxinteger - 1, 2)\n"
           "assert(not pcall(table.unpack, endless))\n"
           "local big = {} for i = 1, 1 << 20 do big[i] = 'x' end\n"
           "assert(#table.concat(big) == 1 << 20)\n"
           "table.insert(big, 'y') assert(#big == (1 << 20) + 1)\n"
           "table.remove(big) large(table.sort, big)\n"
           "large(table.concat, {string.rep('x', 40 << 20), string.rep('x', 40 << 20)})\n"
           "large(table.concat, {'a', 'b'}, string.rep('x', 64 << 20))\n");
    lua_close(L);
}

UNIT(sorting_is_stable_and_survives_bad_comparisons)
{
    lua_State *L = state_open();

    check_lua(
        L,
        "local t = {}\n"
        "for i = 1, 5000 do t[i] = {key = i * 7 % 13, i = i} end\n"
        "table.sort(t, function(a, b) return a.key < b.key end)\n"
        "for i = 2, #t do\n"
        "  local a, b = t[i - 1], t[i]\n"
        "  assert(a.key < b.key or (a.key == b.key and a.i < b.i))\n"
        "end\n"
        "local seen = {}\n"
        "table.sort(t, function() return math.random(2) == 1 end)\n" /* nonsense loses and doubles nothing */
        "for _, v in ipairs(t) do assert(not seen[v]) seen[v] = true end\n"
        "assert(#t == 5000)\n"
        "local before = {table.unpack(t, 1, 200)}\n"
        "local calls = 0\n"
        "assert(not pcall(table.sort, t, function(a, b) calls = calls + 1 if calls == 900 then error('x') "
        "end return a.i < b.i end))\n"
        "for i, v in ipairs(before) do assert(t[i] == v) end\n"
        "local n = {} for i = 1, 1000 do n[i] = i end\n"
        "calls = 0 table.sort(n, function(a, b) calls = calls + 1 return a < b end)\n"
        "assert(calls < 1000, 'sorted input costs one look at each neighbour')\n"
        "table.sort(n, function(a, b) n[a] = nil return b < a end)\n" /* the list changes underneath */
        "assert(n[1] == 1000)\n");
    lua_close(L);
}

UNIT_MAIN(C(find_and_match_agree_with_stock), C(gsub_agrees_with_stock), C(gmatch_agrees_with_stock),
          C(every_class_and_byte_agrees), C(long_patterns_and_many_captures),
          C(a_budget_ends_what_would_not_end), C(results_have_a_size), C(strings_keep_their_metatable),
          C(tables_agree_with_stock), C(table_loops_have_a_size),
          C(sorting_is_stable_and_survives_bad_comparisons))
