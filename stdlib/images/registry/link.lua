-- The Link header of a page: where the list goes on (RFC 8288, as registries write it: without the angle brackets, with
-- the relation in any case and any quotes).
--
-- A list that ends too early would look like tags that are gone. So a header that cannot be read, and a relation that
-- is not known to mean something else, is an error and never the last page.
local M = {}

-- Relations that do not lead to more of a list.
local ELSEWHERE <const> = {}
for name in ("prev previous first last self start up index canonical alternate describedby help license collection item"
  .. " search preconnect preload prefetch dns-prefetch modulepreload stylesheet icon author service service-doc"
  .. " service-desc service-meta status deprecation sunset terms-of-service privacy-policy type"):gmatch("%S+") do
  ELSEWHERE[name] = true
end

---A parameter's value at a position of a header: quoted in one way or the other, or bare.
---@param text string
---@param at integer
---@return string? value nil: its quotes do not end.
---@return integer? after
function M.value(text, at)
  local quote = text:match("^[\"']", at)
  if not quote then
    local value, after = text:match("^([^;,%s]*)()", at) ---@type any, any
    return value, after
  end
  local from, parts = at + 1, {} ---@type any, string[]
  while true do
    local part, mark, after = text:match("^([^\\" .. quote .. "]*)([\\" .. quote .. "])()", from) ---@type any, any, any
    if not part then return nil end
    parts[#parts + 1] = part
    if mark == quote then return table.concat(parts), after end
    parts[#parts + 1], from = text:sub(after, after), after + 1
  end
end

-- The links of one header: {target, rel}. nil when it cannot be read as links.
local function parse(text)
  local links, at = {}, text:match("^[%s,]*()")
  while at <= #text do
    local target, after = text:match("^<%s*([^<>]-)%s*>()", at)
    if not target then target, after = text:match("^([^<>;%s\"']+)()", at) end
    if not target then return nil end
    local link = { target = target }
    at = after
    while true do
      local key
      key, after = text:match("^%s*;%s*([%w_*-]+)%s*()", at)
      if not key then break end
      local value = "" ---@type any
      if text:sub(after, after) == "=" then
        value, after = M.value(text, text:match("^=%s*()", after))
        if not value then return nil end
      end
      if key:lower() == "rel" and not link.rel then link.rel = value:lower() end
      at = after
    end
    at = text:match("^[%s;]*()", at)
    if at <= #text and text:sub(at, at) ~= "," then return nil end
    at = text:match("^[%s,]*()", at)
    links[#links + 1] = link
  end
  return links
end

---Where the next page is.
---@param answer HttpAnswer
---@return string? target As the header has it; nil at the last page.
---@return string? unknown A header that leaves open whether this is the last page.
function M.next(answer)
  local unknown
  for _, header in ipairs(answer.headers:all("link")) do
    local links = parse(header)
    if not links then unknown = header end
    for _, link in ipairs(links or {}) do
      local elsewhere = false
      for rel in (link.rel or ""):gmatch("%S+") do
        if rel == "next" then return link.target end
        elsewhere = elsewhere or ELSEWHERE[rel] or rel:find("://", 1, true) ~= nil
      end
      if not elsewhere then unknown = header end
    end
  end
  return nil, unknown
end

return M
